//! The page at `/` of both programs: what this is, how it is doing, and what is where. HTML without scripts or anything from
//! elsewhere, for a phone as for a desk, dark as light; the same as JSON for those who ask for it.

use std::{
    fmt::Write,
    future::{Ready, ready},
};

use axum::{
    Json,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{ACCEPT, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS},
    },
    response::{Html, IntoResponse, Response},
};
use serde::Serialize;

/// What the page says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Landing {
    /// The program.
    #[schema(example = "pams-server")]
    pub program: &'static str,
    pub version: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// What people call this one.
    pub name: String,
    /// Its peer or server id.
    pub id: String,
    /// How it is doing at present.
    pub numbers: Vec<Number>,
    pub places: Vec<Place>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Number {
    pub label: &'static str,
    pub value: String,
    /// Whether it is as it should be; absent: it is neither good nor bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good: Option<bool>,
}

/// One thing that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Place {
    pub path: &'static str,
    pub what: &'static str,
}

impl Number {
    pub fn new(label: &'static str, value: impl ToString) -> Self {
        Self { label, value: value.to_string(), good: None }
    }

    pub fn good(self, good: bool) -> Self {
        Self { good: Some(good), ..self }
    }
}

impl Landing {
    /// As the client likes it: JSON if it accepts that and does not name HTML, else HTML.
    pub fn answer(&self, headers: &HeaderMap) -> Response {
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let json = accept.contains("application/json") && !accept.contains("text/html");
        let vary = [(VARY, HeaderValue::from_static("accept"))];
        if json { (vary, Json(self)).into_response() } else { (vary, Html(self.html())).into_response() }
    }

    fn html(&self) -> String {
        let Self { program, version, about, name, id, numbers, places } = self;
        let (name, id) = (escape(name), escape(id));
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{name} · {program}</title>\n\
             <style>{STYLE}</style>\n<main>\n<header><p>{program} <span>{version}</span></p>\n<h1>{name}</h1>\n\
             <p class=\"about\">{about}</p>\n<p><code>{id}</code></p></header>\n<dl>\n"
        );
        for Number { label, value, good } in numbers {
            let class = match good {
                Some(true) => " class=\"good\"",
                Some(false) => " class=\"bad\"",
                None => "",
            };
            // Into a string: this cannot fail, here and below.
            let _ = writeln!(page, "<div{class}><dt>{}</dt><dd>{}</dd></div>", escape(label), escape(value));
        }
        page.push_str("</dl>\n<h2>What is where</h2>\n<ul>\n");
        for Place { path, what } in places {
            let path = escape(path);
            let shown = if path.contains('{') { path.clone() } else { format!("<a href=\"{path}\">{path}</a>") };
            let _ = writeln!(page, "<li><code>{shown}</code><span>{}</span></li>", escape(what));
        }
        page.push_str("</ul>\n</main>\n</html>\n");
        page
    }
}

const STYLE: &str = "\
:root{--ink:#16202b;--soft:#5a6675;--line:#dfe4ea;--ground:#f6f7f9;--card:#fff;--link:#0b61b5;--good:#11734b;--bad:#b3261e}\
@media(prefers-color-scheme:dark){:root{--ink:#e6eaef;--soft:#98a4b3;--line:#2b3440;--ground:#12171d;--card:#1a2129;\
--link:#7db8f5;--good:#5fd3a0;--bad:#ff8a80}}\
*{box-sizing:border-box}\
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\
main{max-width:46rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}\
p,h1{margin:0}header p{color:var(--soft)}header .about{color:var(--ink);margin:.25rem 0 .5rem}\
h1{font-size:2rem;line-height:1.2;overflow-wrap:anywhere}h2{font-size:1.05rem;margin:2rem 0 .5rem}\
code{font:.875em ui-monospace,monospace;overflow-wrap:anywhere}\
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.5rem,1fr));gap:.75rem;margin:1.5rem 0 0}\
dl div{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}\
dt{color:var(--soft);font-size:.85rem}dd{margin:0;font-size:1.4rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}\
.good dd{color:var(--good)}.bad dd{color:var(--bad)}\
ul{list-style:none;margin:0;padding:0;background:var(--card);border:1px solid var(--line);border-radius:.5rem}\
li{display:flex;flex-wrap:wrap;align-items:baseline;gap:.1rem 1rem;padding:.5rem .8rem}li+li{border-top:1px solid var(--line)}\
li code{flex:0 0 12.5rem}li span{color:var(--soft);flex:1 1 15rem}a{color:var(--link)}";

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// For every answer: a browser loads nothing for it, does not guess what it is, and tells nobody where it was.
pub fn guard(mut response: Response) -> Ready<Response> {
    let set: [(HeaderName, &'static str); 3] = [
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in set {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    ready(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landing() -> Landing {
        Landing {
            program: "pams-x",
            version: "1",
            about: "It is.",
            name: "<script>\"&".into(),
            id: "7".into(),
            numbers: vec![Number::new("live", 3).good(true)],
            places: vec![Place { path: "/metrics", what: "for Prometheus" }, Place { path: "/x/{id}", what: "one" }],
        }
    }

    #[test]
    fn what_peers_and_operators_name_is_no_markup_and_a_template_is_no_link() {
        let html = landing().html();
        assert!(html.contains("<h1>&lt;script&gt;&quot;&amp;</h1>") && !html.contains("<script"), "{html}");
        assert!(html.contains("<div class=\"good\"><dt>live</dt><dd>3</dd></div>"), "{html}");
        assert!(html.contains("<a href=\"/metrics\">") && !html.contains("<a href=\"/x/"), "{html}");
    }

    #[test]
    fn json_is_for_those_who_ask_for_it() {
        for (accept, expected) in [
            (None, "text/html; charset=utf-8"),
            (Some("*/*"), "text/html; charset=utf-8"),
            (Some("application/json"), "application/json"),
            (Some("text/html,application/json;q=0.9"), "text/html; charset=utf-8"),
        ] {
            let headers = accept.map(|accept| (ACCEPT, HeaderValue::from_static(accept)));
            let answer = landing().answer(&headers.into_iter().collect());
            assert_eq!(answer.headers()["content-type"], expected, "{accept:?}");
        }
    }
}
