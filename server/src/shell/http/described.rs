//! The description of the routes: it is the one that is checked in, it says all that there is and nothing else, and each
//! part of it says what it is.

use std::{env, fs, path::Path};

use pams_shared::openapi::{document, operations, paths, served, unsaid};

use utoipa::{OpenApi, openapi::OpenApi as Document};

use super::{front::usual, *};
use crate::sample;

fn whole() -> Document {
    document(Description::openapi(), [ReadOnly::openapi(), AdminOnly::openapi()], COMMON)
}

fn of_read_only() -> Document {
    document(Description::openapi(), [ReadOnly::openapi()], COMMON)
}

#[test]
fn the_description_is_the_one_that_is_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let made = whole().to_pretty_json().unwrap() + "\n";
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), made, "UPDATE=1 writes server/openapi.json anew");
}

#[test]
fn each_route_is_described_and_nothing_else() {
    for (routes, described) in [(read_only(), of_read_only()), (everything(), whole())] {
        assert_eq!(paths(&served(routes, DESCRIPTION)), described.paths.paths.into_keys().collect());
    }
}

#[test]
fn each_part_says_what_it_is() {
    assert_eq!(unsaid(&whole()), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_not_described_is_not_allowed_and_the_answer_says_what_is() {
    let served = usual().await;
    for (path, item) in of_read_only().paths.paths {
        let allowed: Vec<_> = operations(&item).map(|(method, _)| method).collect();
        let asked = path.replace("{id}", &sample::ALPHA.to_string());
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
            let got = served.ask(method.clone(), &asked).await;
            let described = allowed.contains(&method.as_str()) || (method == Method::HEAD && allowed.contains(&"GET"));
            // Known, but not for everybody who can reach the port.
            let good = if method == Method::POST { 403 } else { 200 };
            assert_eq!(got.status.as_u16(), if described { good } else { 405 }, "{method} {asked}");
            assert_eq!(got.headers["x-content-type-options"], "nosniff", "{asked}");
            if !described {
                let allow = if allowed.contains(&"GET") { "GET,HEAD" } else { "POST" };
                assert_eq!(got.headers["allow"], allow, "{asked}");
                assert_eq!(got.headers["content-type"], "application/problem+json", "{asked}");
                if method != Method::HEAD {
                    let problem = got.problem();
                    assert_eq!((problem.status, &*problem.title), (405, "Method Not Allowed"));
                }
            }
        }
    }
}

#[tokio::test]
async fn the_page_tells_who_is_here() {
    let served = usual().await;
    let got = served.get("/").await;
    assert_eq!(got.headers["content-type"], "text/html; charset=utf-8");
    assert!(got.headers["content-security-policy"].starts_with("default-src 'none'"));
    assert!(got.text.contains("<dt>live</dt><dd>2</dd>"), "{}", got.text);
    for path in of_read_only().paths.paths.keys().filter(|path| *path != "/") {
        assert!(got.text.contains(path.as_str()), "{path} stands not on the page");
    }
}
