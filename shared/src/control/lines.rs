//! An answer that has no end: lines of JSON, read as they come.

use std::{future::Future, pin::Pin};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Incoming, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Control, ControlError, Problem};

/// A line is never longer.
const LINE_BYTES_MAX: usize = 1 << 20;

/// The lines of an answer; the request ends when this is dropped.
pub struct Lines {
    program: &'static str,
    what: String,
    /// Driven while lines are waited for; `None`: it has ended.
    connection: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    body: Incoming,
    read: Vec<u8>,
}

impl Control {
    /// Begins a GET whose answer is lines of JSON; `path` is encoded already. The head has to come within the time of a
    /// request, the lines have theirs.
    pub async fn lines(&self, path: &str) -> Result<Lines, ControlError> {
        let what = format!("GET {path}");
        let late = ControlError::Timeout { program: self.program, what: what.clone(), after: self.timeout };
        tokio::time::timeout(self.timeout, self.begin(path, what)).await.unwrap_or(Err(late))
    }

    async fn begin(&self, path: &str, what: String) -> Result<Lines, ControlError> {
        let program = self.program;
        let broken = |e: hyper::Error| ControlError::Broken { program, what: what.clone(), problem: e.to_string() };
        let request = Request::get(path).header(header::HOST, "localhost").body(Full::new(Bytes::new()));
        let request = request.map_err(|e| ControlError::Request { what: what.clone(), problem: e.to_string() })?;
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unconnected(e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Its error is seen where its bytes are waited for.
        let mut connection: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async { drop(connection.await) });
        let answer = sender.send_request(request);
        tokio::pin!(answer);
        let (response, connection) = tokio::select! {
            biased;
            response = &mut answer => (response, Some(connection)),
            () = &mut connection => (answer.await, None),
        };
        let (head, body) = response.map_err(broken)?.into_parts();
        let mut lines = Lines { program, what, connection, body, read: Vec::new() };
        if head.status.is_success() {
            return Ok(lines);
        }
        while lines.more().await? {}
        let problem = serde_json::from_slice(&lines.read)
            .unwrap_or_else(|_| Problem::new(format!("{}: {}", lines.what, head.status)));
        Err(ControlError::Refused { status: head.status.as_u16(), problem })
    }
}

impl Lines {
    /// The next line; `None` when the answer has ended.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ControlError> {
        loop {
            if let Some(end) = self.read.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let (program, what) = (self.program, self.what.clone());
                return serde_json::from_slice(&line).map(Some).map_err(|e| ControlError::Unreadable {
                    program,
                    what,
                    problem: e.to_string(),
                });
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Reads on; `false`: that was all.
    async fn more(&mut self) -> Result<bool, ControlError> {
        let frame = match &mut self.connection {
            None => self.body.frame().await,
            Some(connection) => {
                let frame = self.body.frame();
                tokio::pin!(frame);
                tokio::select! {
                    biased;
                    frame = &mut frame => frame,
                    () = connection => {
                        self.connection = None;
                        frame.await
                    }
                }
            }
        };
        let Some(frame) = frame else { return Ok(false) };
        let what = self.what.clone();
        let frame = frame.map_err(|e| ControlError::Broken { program: self.program, what, problem: e.to_string() })?;
        if let Ok(bytes) = frame.into_data() {
            self.read.extend_from_slice(&bytes);
        }
        if self.read.len() > LINE_BYTES_MAX {
            return Err(ControlError::TooLarge { what: self.what.clone() });
        }
        Ok(true)
    }
}
