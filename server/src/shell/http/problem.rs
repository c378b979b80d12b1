//! Answers that say no: always JSON, with what was wrong and what to do about it, in the form that the CLIs read.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use pams_shared::control::Problem;

use crate::shell::handle::Ended;

#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    problem: Problem,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub fn new(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, problem: Problem::new(error).hint(hint), retry_after: None }
    }

    /// 400: the client's mistake.
    pub fn bad(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, hint)
    }

    /// 503, to be tried again after some time, by the second.
    pub fn later(error: impl Into<String>, hint: impl Into<String>, after: Duration) -> Self {
        Self { retry_after: Some(after), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error, hint) }
    }

    pub fn slow(patience: Duration) -> Self {
        let error = format!("no answer within {} s", patience.as_secs());
        Self::later(error, "the server is overloaded or stuck; its log may say why", patience)
    }

    pub fn path(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("nothing is at {path}"), "GET / lists what there is")
    }

    pub fn method(method: &Method, path: &str) -> Self {
        let error = format!("{method} cannot be done with {path}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, error, "GET / lists what there is")
    }
}

impl From<Ended> for Refusal {
    fn from(_: Ended) -> Self {
        Self::later("the server is stopping", "try again once it runs", Duration::from_secs(5))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem)).into_response();
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}
