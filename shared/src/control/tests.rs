//! A real socket and a small HTTP server that answers by path.
#![allow(clippy::disallowed_methods)] // A server in a task of its own ends with the runtime.

use std::convert::Infallible;

use hyper::{Response, body::Incoming, server, service::service_fn};
use serde_json::{Value, json};

use super::*;

/// Echoes, fails, floods or keeps silent.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body: Bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let reply = |status, bytes| {
        let mut response = Response::new(Full::new(bytes));
        *response.status_mut() = status;
        Ok(response)
    };
    match head.uri.path() {
        "/nothing" => reply(StatusCode::NO_CONTENT, Bytes::new()),
        "/silent" => std::future::pending().await,
        "/flood" => reply(StatusCode::OK, Bytes::from(vec![b' '; RESPONSE_BYTES_MAX + 1])),
        "/html" => reply(StatusCode::OK, Bytes::from("<html>")),
        "/bare" => reply(StatusCode::NOT_FOUND, Bytes::from("no such route")),
        "/refused" => {
            let problem = Problem::new("no peer b9").hint("`pams-agent buddies` lists those known");
            reply(StatusCode::NOT_FOUND, serde_json::to_vec(&problem).unwrap().into())
        }
        _ => {
            let kind = head.headers.get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap());
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let echo =
                json!({ "method": head.method.as_str(), "uri": head.uri.to_string(), "body": body, "type": kind });
            reply(StatusCode::OK, echo.to_string().into())
        }
    }
}

/// Serves on `agent.sock` in `folder` until the returned file is dropped.
async fn serve(folder: &Path) -> (Control, SocketFile) {
    let path = folder.join("run/agent.sock");
    let (listener, file) = listen(&path, 0o660).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(
                server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)),
            );
        }
    });
    (Control::new(path, "pams-agent"), file)
}

#[tokio::test]
async fn requests_carry_method_target_and_body() {
    let folder = tempfile::tempdir().unwrap();
    let (control, _file) = serve(folder.path()).await;
    let path = target(&["v1", "peers", "a/b é"], &[("overlay", "x&y=z"), ("limit", "10")]);
    assert_eq!(path, "/v1/peers/a%2Fb%20%C3%A9?overlay=x%26y%3Dz&limit=10");
    let got: Value = control.get(&path).await.unwrap();
    assert_eq!(got, json!({ "method": "GET", "uri": path, "body": null, "type": null }));
    let body = json!({ "status": "busy" });
    let put: Value = control.put("/v1/presence", &body).await.unwrap();
    assert_eq!((&put["method"], &put["body"], &put["type"]), (&json!("PUT"), &body, &json!("application/json")));
    let post: Value = control.post("/v1/ping/b2", &body).await.unwrap();
    assert_eq!(post["method"], "POST");
    let delete: Value = control.delete("/v1/peers/b2").await.unwrap();
    assert_eq!(delete["method"], "DELETE");
    control.get::<()>("/nothing").await.unwrap();
}

#[tokio::test]
async fn what_goes_wrong_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (control, file) = serve(folder.path()).await;
    let control = control.within(Duration::from_millis(200));
    for (path, expected, code) in [
        ("/refused", "no peer b9; `pams-agent buddies` lists those known", 1),
        ("/bare", "GET /bare: 404 Not Found", 1),
        ("/silent", "pams-agent did not answer GET /silent within 200ms", exit::UNAVAILABLE),
        ("/html", "pams-agent answered GET /html with what this client cannot read", exit::INTERNAL),
        ("no path", "the request to GET no path cannot be made", exit::INTERNAL),
    ] {
        let error = control.get::<Value>(path).await.unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.exit_code(), code, "{error}");
    }
    let error = control.clone().within(TIMEOUT).get::<Value>("/flood").await.unwrap_err();
    assert!(matches!(error, ControlError::TooLarge { .. }), "{error}");

    let path = folder.path().join("run/agent.sock");
    let nobody = format!("no pams-agent listens on {}: is it running? --socket names another", path.display());
    drop(file);
    assert_eq!(control.get::<Value>("/").await.unwrap_err().to_string(), nobody, "the file is gone");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(control.get::<Value>("/").await.unwrap_err().to_string(), nobody, "the file is stale");
}

#[tokio::test]
async fn a_daemon_that_hangs_up_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (listener, _file) = listen(&path, 0o600).await.unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let error = Control::new(&path, "pams-agent").get::<Value>("/v1/status").await.unwrap_err();
    assert!(error.to_string().starts_with("pams-agent broke off while answering GET /v1/status: "), "{error}");
}

#[test]
fn a_denied_client_learns_who_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    let user = User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let denied = Control::new(&path, "pams-agent").unconnected(ErrorKind::PermissionDenied.into());
    let told = denied.to_string();
    assert!(
        told.starts_with(&format!("permission denied on {0}: {0} is of user {user} and group ", path.display())),
        "{told}"
    );
    assert!(told.ends_with(" with mode 660; be that user, or join that group"), "{told}");
    assert_eq!(denied.exit_code(), exit::NO_PERMISSION);
}

#[tokio::test]
async fn a_socket_has_its_mode_from_the_start_and_goes_with_its_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/agent.sock");
    let (_listener, file) = listen(&path, 0o660).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    drop(file);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_one_in_use_or_another_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (_listener, first) = listen(&path, 0o660).await.unwrap();

    let error = listen(&path, 0o660).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let told =
        format!("cannot listen on {}: another daemon listens there; stop it or name another socket", path.display());
    assert_eq!(error.to_string(), told);

    // A later daemon's file is not the first one's to remove.
    fs::remove_file(&path).unwrap();
    let (_later, _file) = listen(&path, 0o660).await.unwrap();
    drop(first);
    assert!(path.exists());

    let plain = folder.path().join("notes");
    fs::write(&plain, "mine").unwrap();
    assert_eq!(listen(&plain, 0o660).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&plain).unwrap(), b"mine");
}
