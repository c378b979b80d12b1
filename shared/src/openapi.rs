//! What both programs do alike with the OpenAPI description of their routes (OpenAPI 3.1). A handler is annotated once, which
//! makes its route and its description; here the errors that are common to all are added, and the outcome, checked in, is served
//! as `/openapi.json`.
//!
//! A response of status 400 or more needs no body in the annotation: it is a [`Problem`] everywhere.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Extension, Router,
    handler::Handler,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
#[doc(hidden)]
pub use pastey::paste;
use utoipa::{
    OpenApi, PartialSchema, ToSchema,
    openapi::{
        ContentBuilder, ObjectBuilder, OpenApi as OpenApiDocument, Ref, RefOr, ResponseBuilder, Type,
        path::{HttpMethod, Operation, PathItem},
        schema::{AdditionalProperties, KnownFormat, Schema, SchemaFormat, SchemaType},
    },
};

use crate::{
    control::{PROBLEM_TYPE, Problem},
    record::{KIND_BYTES_MAX, Kind, Stage, Stages},
};

/// A refusal that each operation can give: its status and what it means.
pub type Common = (u16, &'static str);

/// Routes of a listener, made of their handlers' annotations.
#[derive(Debug)]
pub struct Routes<S> {
    router: Router<S>,
    paths: Vec<String>,
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self { router: Router::new(), paths: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// Adds a handler where its annotation `A` says. [`routes!`](crate::routes!) writes this.
    pub fn route<A: utoipa::Path, H: Handler<T, S>, T: 'static>(mut self, handler: H) -> Self {
        let path = A::path();
        for method in A::methods() {
            self.router = self.router.route(&path, on(filter(&method), handler.clone()));
        }
        self.paths.push(path);
        self
    }

    /// With those of another listener.
    pub fn and(self, other: Self) -> Self {
        Self { router: self.router.merge(other.router), paths: [self.paths, other.paths].concat() }
    }
}

/// Declares the routes of a listener: a list of annotated handlers. It makes the function that gives the [`Routes`], and, for
/// tests alone, the type that describes them: to make the description takes half a megabyte of code, so that a program only
/// carries the outcome.
#[macro_export]
macro_rules! routes {
    ($(#[$doc:meta])* $name:ident of $state:ty, described by $described:ident: $($($part:ident)::+),+ $(,)?) => {
        $(#[$doc])*
        fn $name() -> $crate::openapi::Routes<$state> {
            $crate::openapi::Routes::default()
                $(.route::<$crate::annotation!(@ [] $($part)+), _, _>($($part)::+))+
        }

        #[cfg(test)]
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($($part)::+),+))]
        struct $described;
    };
}

/// The type that `#[utoipa::path]` makes beside a handler.
#[doc(hidden)]
#[macro_export]
macro_rules! annotation {
    (@ [$($before:ident)*] $last:ident) => { $crate::openapi::paste! { $($before::)* [<__path_ $last>] } };
    (@ [$($before:ident)*] $next:ident $($rest:ident)+) => { $crate::annotation!(@ [$($before)* $next] $($rest)+) };
}

/// What a listener says of itself.
#[derive(Clone)]
struct Document {
    whole: &'static str,
    paths: Arc<[String]>,
}

/// This description
///
/// OpenAPI 3.1 of what this listener serves, generated from the code that serves it.
#[utoipa::path(get, path = "/openapi.json", tag = "about",
    responses((status = 200, description = "The description", body = serde_json::Value)))]
async fn openapi(Extension(Document { whole, paths }): Extension<Document>) -> Response {
    // The document is our own, and read by a test: it can always be read and written.
    let mut document: serde_json::Value = serde_json::from_str(whole).unwrap_or_default();
    if let Some(all) = document.get_mut("paths").and_then(|p| p.as_object_mut()) {
        all.retain(|path, _| paths.contains(path));
    }
    ([(CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}

#[derive(OpenApi)]
#[openapi(paths(openapi))]
struct Own;

/// The router of `routes`, which also serves their description: what `whole`, the document that is checked in, says of them.
pub fn served<S: Clone + Send + Sync + 'static>(routes: Routes<S>, whole: &'static str) -> Router<S> {
    let Routes { router, paths } = routes.route::<__path_openapi, _, _>(openapi);
    router.layer(Extension(Document { whole, paths: paths.into() }))
}

/// The description of `parts`, with `head` at its head. For tests, which hold the document that is checked in to it.
pub fn document(
    head: OpenApiDocument,
    parts: impl IntoIterator<Item = OpenApiDocument>,
    common: &[Common],
) -> OpenApiDocument {
    let mut document = head;
    parts.into_iter().chain([Own::openapi()]).for_each(|part| document.merge(part));
    complete(&mut document, common);
    document
}

fn filter(method: &HttpMethod) -> MethodFilter {
    match method {
        HttpMethod::Get => MethodFilter::GET,
        HttpMethod::Put => MethodFilter::PUT,
        HttpMethod::Post => MethodFilter::POST,
        HttpMethod::Delete => MethodFilter::DELETE,
        HttpMethod::Options => MethodFilter::OPTIONS,
        HttpMethod::Head => MethodFilter::HEAD,
        HttpMethod::Patch => MethodFilter::PATCH,
        HttpMethod::Trace => MethodFilter::TRACE,
    }
}

/// The paths of a router, as its `Debug` tells them: axum has no other way to list them. For tests.
pub fn paths<S>(router: &Router<S>) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let node = text.split_once("Node { paths: {").map_or("", |(_, rest)| rest.split_once("} }").map_or("", |(n, _)| n));
    node.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The operations of a path, by method.
pub fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
    let all = [("GET", &item.get), ("PUT", &item.put), ("POST", &item.post), ("DELETE", &item.delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
}

/// What the annotations left out: operations without words or of an unknown tag, parameters without words, links of rustdoc.
/// For tests.
pub fn unsaid(document: &OpenApiDocument) -> Vec<String> {
    let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let tags: Vec<_> = document.tags.iter().flatten().map(|tag| &tag.name).collect();
    let mut flaws = Vec::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in operations(item) {
            let tagged = operation.tags.iter().flatten().all(|tag| tags.contains(&tag)) && operation.tags.is_some();
            if !tagged || !said(&operation.summary) || !said(&operation.description) {
                flaws.push(format!("{method} {path}: tag, summary or description"));
            }
            for parameter in operation.parameters.iter().flatten() {
                if let RefOr::T(parameter) = parameter
                    && (!said(&parameter.description) || parameter.schema.is_none())
                {
                    flaws.push(format!("{method} {path}: parameter {}", parameter.name));
                }
            }
        }
    }
    if document.to_json().unwrap_or_default().contains("[`") {
        flaws.push("a link of rustdoc, which leads nowhere here".to_owned());
    }
    flaws
}

fn complete(document: &mut OpenApiDocument, common: &[Common]) {
    let components = document.components.get_or_insert_default();
    components.schemas.insert(Problem::name().into(), Problem::schema());
    for item in document.paths.paths.values_mut() {
        let all = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        all.into_iter().flatten().for_each(|operation| refusals(operation, common));
    }
}

/// Adds the common refusals, and the body of each.
fn refusals(operation: &mut Operation, common: &[Common]) {
    let responses = &mut operation.responses.responses;
    for (status, description) in common {
        let response = || ResponseBuilder::new().description(*description).build().into();
        responses.entry(status.to_string()).or_insert_with(response);
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response
            && status.as_bytes()[0] >= b'4'
            && response.content.is_empty()
        {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
            response.content.insert(PROBLEM_TYPE.to_owned(), content.into());
        }
    }
}

impl ToSchema for Kind {}

impl PartialSchema for Kind {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(KIND_BYTES_MAX));
        text.pattern(Some("^[a-z0-9._-]+$"))
            .description(Some("What a transaction is about: `presence.ping`, `pams.report`, or an application's own."))
            .examples(["presence.ping"])
            .into()
    }
}

impl ToSchema for Stages {}

impl PartialSchema for Stages {
    fn schema() -> RefOr<Schema> {
        let ns = || {
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
                .minimum(Some(0))
        };
        let stages = Stage::ALL.into_iter().fold(ObjectBuilder::new(), |o, stage| o.property(stage.as_str(), ns()));
        stages
            .schema_type(SchemaType::Type(Type::Object))
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .description(Some(
                "A transaction's time by stage, in nanoseconds. A stage that was not measured is absent, never 0.",
            ))
            .into()
    }
}
