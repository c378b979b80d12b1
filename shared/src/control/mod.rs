//! The one control path: HTTP/1.1 with JSON over a unix socket. Here are the clients' half, for the CLIs, and what
//! the serving half shares: opening the socket file, and the body of an error. Routes and their answers are each
//! binary's.

mod lines;

use std::{
    ffi::OsString,
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use nix::unistd::{Gid, Group, Uid, User};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::net::{UnixListener, UnixStream};

pub use self::lines::Lines;
use crate::config::exit;

/// An answer is never larger.
pub const RESPONSE_BYTES_MAX: usize = 16 << 20;

/// How long a whole request may take, unless [`Control::within`] says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Media type of a [`Problem`].
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// The JSON body of each answer that is an error (RFC 9457): `status` and `title` are HTTP's own number and words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// HTTP's status.
    #[serde(default)] // 0: made by the client itself
    #[schema(required = true, minimum = 400, maximum = 599, example = 404)]
    pub status: u16,
    /// What HTTP calls that status.
    #[serde(default)]
    #[schema(required = true, value_type = String, example = "Not Found")]
    pub title: Box<str>,
    /// What went wrong, in lower case.
    #[serde(rename = "detail")]
    pub error: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// For programs: a word of a closed list, such as those of `Reason`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Problem {
    pub fn new(error: impl Into<String>) -> Self {
        Self { status: 0, title: Box::default(), error: error.into(), hint: None, reason: None }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub fn reason(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }
}

/// Why a request has no good answer. Only after [`ControlError::Timeout`], [`ControlError::Broken`] and the answers
/// may the daemon have done what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    #[error("no {program} listens on {}: is it running? --socket names another", path.display())]
    Nobody { program: &'static str, path: PathBuf },
    #[error("permission denied on {}: {advice}", path.display())]
    Permission { path: PathBuf, advice: String },
    #[error("cannot connect to {}: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("{program} did not answer {what} within {}", humantime::format_duration(*after))]
    Timeout { program: &'static str, what: String, after: Duration },
    #[error("{program} broke off while answering {what}: {problem}; its log may say why")]
    Broken { program: &'static str, what: String, problem: String },
    #[error("the answer to {what} is larger than {RESPONSE_BYTES_MAX} bytes; ask for less, such as a page")]
    TooLarge { what: String },
    /// The daemon said no.
    #[error("{}{}", problem.error, problem.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Refused { status: u16, problem: Problem },
    #[error("{program} answered {what} with what this client cannot read ({problem}): are their versions the same?")]
    Unreadable { program: &'static str, what: String, problem: String },
    #[error("the request to {what} cannot be made: {problem}")]
    Request { what: String, problem: String },
}

impl ControlError {
    /// What a CLI ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Nobody { .. } | Self::Timeout { .. } => exit::UNAVAILABLE,
            Self::Permission { .. } => exit::NO_PERMISSION,
            Self::Connect { .. } | Self::Broken { .. } | Self::TooLarge { .. } => exit::IO,
            Self::Unreadable { .. } | Self::Request { .. } => exit::INTERNAL,
            Self::Refused { .. } => 1,
        }
    }
}

/// A client. Each request has a connection of its own, as a CLI makes few.
#[derive(Clone, Debug)]
pub struct Control {
    socket: PathBuf,
    program: &'static str,
    timeout: Duration,
}

impl Control {
    /// `program` is who listens there, for the messages: `pams-agent`.
    pub fn new(socket: impl Into<PathBuf>, program: &'static str) -> Self {
        Self { socket: socket.into(), program, timeout: TIMEOUT }
    }

    /// Another time for each whole request.
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        self.request(Method::GET, path, None::<&()>).await
    }

    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ControlError> {
        self.request(Method::PUT, path, Some(body)).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ControlError> {
        self.request(Method::POST, path, Some(body)).await
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        self.request(Method::DELETE, path, None::<&()>).await
    }

    /// `path` is encoded already: see [`target`]. An empty answer reads as JSON's null.
    pub async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ControlError> {
        let what = format!("{method} {path}");
        let program = self.program;
        let cannot = |problem: String| ControlError::Request { what: what.clone(), problem };
        let bytes = match body {
            Some(body) => serde_json::to_vec(body).map_err(|e| cannot(e.to_string()))?,
            None => Vec::new(),
        };
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(Bytes::from(bytes))).map_err(|e| cannot(e.to_string()))?;
        let answer = tokio::time::timeout(self.timeout, self.exchange(request, &what)).await;
        let (status, bytes) =
            answer.map_err(|_| ControlError::Timeout { program, what: what.clone(), after: self.timeout })??;
        if !status.is_success() {
            let problem = serde_json::from_slice(&bytes).unwrap_or_else(|_| Problem::new(format!("{what}: {status}")));
            return Err(ControlError::Refused { status: status.as_u16(), problem });
        }
        let text = if bytes.is_empty() { &b"null"[..] } else { &bytes };
        serde_json::from_slice(text).map_err(|e| ControlError::Unreadable { program, what, problem: e.to_string() })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, what: &str) -> Result<(StatusCode, Bytes), ControlError> {
        let broken = |e: &dyn std::error::Error| ControlError::Broken {
            program: self.program,
            what: what.to_owned(),
            problem: e.to_string(),
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unconnected(e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, RESPONSE_BYTES_MAX).collect().await.map_err(|e| {
                match e.is::<LengthLimitError>() {
                    true => ControlError::TooLarge { what: what.to_owned() },
                    false => broken(e.as_ref()),
                }
            })?;
            Ok((head.status, body.to_bytes()))
        };
        // The connection is driven here and not in a task, so nothing outlives the request. When it ends first, the
        // answer is there to be read or will not come.
        tokio::pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        }
    }

    fn unconnected(&self, source: io::Error) -> ControlError {
        let path = self.socket.clone();
        match source.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ControlError::Nobody { program: self.program, path },
            ErrorKind::PermissionDenied => ControlError::Permission { advice: who_may(&path), path },
            _ => ControlError::Connect { path, source },
        }
    }
}

/// A request's target: `segments` of the path and a query, percent-encoded (RFC 3986).
///
/// `target(&["v1", "peers", id], &[("limit", "10")])` is `/v1/peers/<id>?limit=10`.
pub fn target(segments: &[&str], query: &[(&str, &str)]) -> String {
    let mut target = String::new();
    for segment in segments {
        target.push('/');
        encode(&mut target, segment);
    }
    for (i, (name, value)) in query.iter().enumerate() {
        target.push(if i == 0 { '?' } else { '&' });
        encode(&mut target, name);
        target.push('=');
        encode(&mut target, value);
    }
    target
}

fn encode(text: &mut String, raw: &str) {
    for byte in raw.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
}

/// Who may use the socket, or enter the folder that hides it.
fn who_may(path: &Path) -> String {
    let shown = |path: &Path, metadata: &fs::Metadata| {
        let user = User::from_uid(Uid::from_raw(metadata.uid())).ok().flatten();
        let group = Group::from_gid(Gid::from_raw(metadata.gid())).ok().flatten();
        let user = user.map_or_else(|| metadata.uid().to_string(), |user| user.name);
        let group = group.map_or_else(|| metadata.gid().to_string(), |group| group.name);
        let mode = metadata.mode() & 0o777;
        let path = path.display();
        format!("{path} is of user {user} and group {group} with mode {mode:03o}; be that user, or join that group")
    };
    path.ancestors()
        .find_map(|path| fs::metadata(path).ok().map(|metadata| shown(path, &metadata)))
        .unwrap_or_else(|| "ask who runs it".to_owned())
}

/// Listens on a socket file with these permissions, making its folder (0755) if needed. A file that a dead daemon
/// left is replaced; a socket where somebody answers ([`ErrorKind::AddrInUse`]) and a file that is no socket are not.
/// The file goes when the [`SocketFile`] is dropped.
///
/// The file appears with its permissions set: it is bound beside its place and moved there.
pub async fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let told = |e: io::Error| io::Error::new(e.kind(), format!("cannot listen on {}: {e}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(told)?;
    vacant(path).await.map_err(told)?;

    let name = path.file_name().ok_or_else(|| told(ErrorKind::InvalidInput.into()))?;
    let mut aside = OsString::from(".");
    aside.push(name);
    aside.push(format!(".{}", std::process::id()));
    let aside = folder.join(aside);
    let listener = bind(&aside, mode, path).inspect_err(|_| drop(fs::remove_file(&aside))).map_err(told)?;
    let metadata = fs::symlink_metadata(path).map_err(told)?;
    Ok((listener, SocketFile { path: path.to_owned(), id: (metadata.dev(), metadata.ino()) }))
}

fn bind(aside: &Path, mode: u32, path: &Path) -> io::Result<UnixListener> {
    // What a daemon with our process id left when it was killed just here.
    match fs::remove_file(aside) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(aside)?;
    fs::set_permissions(aside, fs::Permissions::from_mode(mode))?;
    fs::rename(aside, path)?;
    Ok(listener)
}

/// Whether nobody answers at `path`.
async fn vacant(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "the file there is no socket; move it or name another",
            ));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        // Connected, or its queue is full, or it is somebody else's: in use, as far as we can tell.
        _ => Err(io::Error::new(ErrorKind::AddrInUse, "another daemon listens there; stop it or name another socket")),
    }
}

/// Removes the socket file when dropped, unless another daemon has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.id);
        if ours {
            // Left behind, it is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
