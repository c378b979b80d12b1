//! The answers that say no whatever was asked, with what to do about it.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use pams_shared::serve::Refusal;

use crate::shell::handle::Ended;

pub fn slow(patience: Duration) -> Refusal {
    Refusal::unavailable(format!("no answer within {} s", patience.as_secs()))
        .hint("the server is overloaded or stuck; its log may say why")
        .after(patience)
}

pub fn path(path: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("nothing is at {path}")).hint("GET / lists what there is")
}

pub fn method(method: &Method, path: &str) -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} cannot be done with {path}"))
        .hint("GET / lists what there is")
}

impl From<Ended> for Refusal {
    fn from(_: Ended) -> Self {
        Self::unavailable("the server is stopping").hint("try again once it runs").after(Duration::from_secs(5))
    }
}
