//! The description of the routes: it is the one that is checked in, it says all that there is and nothing else, and each
//! part of it says what it is.

use std::{env, fs, path::Path};

use pams_shared::openapi::{document, operations, paths, served, unsaid};

use utoipa::{OpenApi, openapi::OpenApi as Document};

use super::{front::Front, *};
use crate::sample;

/// Of both listeners, as it is checked in; each serves its own part.
fn whole() -> Document {
    document(Description::openapi(), [ControlRoutes::openapi(), HttpRoutes::openapi()], COMMON)
}

fn of_control() -> Document {
    document(Description::openapi(), [ControlRoutes::openapi()], COMMON)
}

fn of_http() -> Document {
    document(Description::openapi(), [HttpRoutes::openapi()], COMMON)
}

#[test]
fn the_description_is_the_one_that_is_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let made = whole().to_pretty_json().unwrap() + "\n";
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), made, "UPDATE=1 writes agent/openapi.json anew");
}

#[test]
fn each_route_is_described_and_nothing_else() {
    for (routes, described) in [(control_routes(), of_control()), (http_routes(), of_http())] {
        assert_eq!(paths(&served(routes, DESCRIPTION)), described.paths.paths.into_keys().collect());
    }
}

#[test]
fn each_part_says_what_it_is() {
    assert_eq!(unsaid(&whole()), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_not_described_is_not_allowed_and_the_answer_says_what_is() {
    let front = Front::new().await;
    for (path, item) in of_control().paths.paths {
        let described: Vec<_> = operations(&item).map(|(method, _)| method).collect();
        let asked = path.replace("{id}", &sample::peer(2).to_string());
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"].into_iter().filter(|m| !described.contains(m)) {
            let answer = front.raw(&format!("{method} {asked} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
            let answer = answer.to_lowercase();
            assert!(answer.starts_with("http/1.1 405 "), "{method} {asked}: {answer}");
            assert!(answer.contains("\r\ncontent-type: application/problem+json\r\n"), "{method} {asked}: {answer}");
            let allow = answer.split("\r\n").find_map(|line| line.strip_prefix("allow: ")).expect("an Allow header");
            let mut allowed: Vec<_> = allow.split(',').filter(|m| *m != "head").map(str::to_uppercase).collect();
            allowed.sort_unstable_by_key(|m| ["GET", "PUT", "POST", "DELETE"].iter().position(|known| known == m));
            assert_eq!(allowed, described, "{asked}");
        }
    }
}

#[tokio::test]
async fn the_page_tells_how_home_and_buddies_are() {
    let front = Front::new().await;
    let page = front.http("/").await;
    assert!(page.contains("\r\ncontent-type: text/html; charset=utf-8\r\n"), "{page}");
    assert!(page.contains("<div class=\"good\"><dt>home</dt><dd>connected</dd></div>"), "{page}");
    assert!(page.contains("<dt>gone</dt><dd>1</dd>"), "{page}");
    for path in of_http().paths.paths.keys().filter(|path| *path != "/") {
        assert!(page.contains(&format!("href=\"{path}\"")), "{path} stands not on the page");
    }
}
