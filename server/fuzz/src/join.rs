//! The server's side of a join against frames, each behind its length in two bytes: whoever does not show an open token and prove
//! a key gets nothing and changes nothing; a token is used so often and no more; an id has one key.
//!
//! Secrets and keys are made anew by each process, so what stands in the golden frame stands for them: see [`Home::fill`].

use std::{cell::RefCell, collections::HashMap};

use pams_shared::{
    frame::{DETAIL_BYTES_MAX, Frame, Issued, Join, Refused, Role, STREAM_BYTES_MAX, wire},
    identity::{AgentIdentity, Authority, Grant, SECRET_BYTES, Subject, Token},
};
use tempfile::TempDir;
use uuid::{Builder, Uuid};

/// Unix seconds of all that happens here.
const NOW: u64 = 1_700_000_000;
/// Uses of each token.
const USES: u32 = 2;
/// Attempts in one input.
const ATTEMPTS_MAX: usize = 8;

thread_local! {
    static HOME: RefCell<Home> = RefCell::new(Home::new());
}

pub fn check(bytes: &[u8]) {
    HOME.with_borrow_mut(|home| home.converse(bytes));
}

/// Frames one after another, as [`check`] takes them.
pub fn conversation(frames: &[Vec<u8>]) -> Vec<u8> {
    let length = |frame: &[u8]| u16::try_from(frame.len()).expect("a short frame").to_be_bytes();
    frames.iter().flat_map(|frame| [&length(frame), &frame[..]].concat()).collect()
}

struct Home {
    _dir: TempDir,
    authority: Authority,
    /// Of two agents.
    csrs: [Vec<u8>; 2],
    token: (String, [u8; SECRET_BYTES]),
    /// Whose the ids are that the present token has let in: the hash of the key.
    bound: HashMap<Uuid, [u8; 32]>,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut authority = Authority::open(&dir.path().join("home"), "fuzz.example", NOW).expect("an authority");
        let token = open_token(&mut authority);
        let pin = authority.pin().expect("a root");
        let csrs = ["a", "b"].map(|name| {
            let (id, secret) = token.clone();
            let token = Token { pin, id, secret, addresses: Vec::new() };
            let agent = AgentIdentity::open(&dir.path().join(name)).expect("an identity");
            agent.join_request(&token, name, NOW * 1_000).expect("a request").csr
        });
        Self { _dir: dir, authority, csrs, token, bound: HashMap::new() }
    }

    fn converse(&mut self, mut bytes: &[u8]) {
        for _ in 0..ATTEMPTS_MAX {
            let Some((length, rest)) = bytes.split_first_chunk() else { break };
            let Some((frame, rest)) = rest.split_at_checked(u16::from_be_bytes(*length).into()) else { break };
            bytes = rest;
            if let Ok(Frame::Join(join)) = wire::decode(frame, STREAM_BYTES_MAX) {
                self.attempt(self.fill(join));
            }
        }
        self.tidy();
    }

    /// Puts what only this process knows where the golden frame has its like.
    fn fill(&self, mut join: Join) -> Join {
        if join.token_id == "t1" {
            join.token_id.clone_from(&self.token.0);
        }
        if join.secret == b"secret" {
            join.secret = self.token.1.to_vec();
        }
        match &join.csr[..] {
            b"request" => join.csr.clone_from(&self.csrs[0]),
            b"another" => join.csr.clone_from(&self.csrs[1]),
            _ => {}
        }
        let id = join.id.into_bytes();
        if id.iter().all(|b| *b == id[0]) {
            join.id = Builder::from_random_bytes(id).into_uuid(); // a version 4, as peers have
        }
        join
    }

    fn attempt(&mut self, join: Join) {
        let used = self.used();
        let answer = self.authority.enrol(&join, NOW);
        match &answer {
            Ok(issued) => self.let_in(&join, issued),
            Err(Refused { detail, .. }) => assert!(!detail.is_empty() && detail.len() <= DETAIL_BYTES_MAX, "{detail}"),
        }
        assert!(answer.is_ok() || self.used() == used, "a refusal uses nothing up");
        let answer = answer.map_or_else(Frame::Refused, Frame::Issued);
        assert_eq!(wire::decode(&wire::encode(&answer), STREAM_BYTES_MAX), Ok(answer), "the answer arrives");
    }

    fn let_in(&mut self, join: &Join, issued: &Issued) {
        assert_eq!((&join.token_id, &join.secret[..], join.role), (&self.token.0, &self.token.1[..], Role::Agent));
        let leaf = Subject::of_leaf(&issued.chain[0]).expect("a leaf names whose it is");
        assert_eq!((leaf.id, leaf.role), (join.id, Role::Agent));
        let key = *self.bound.entry(join.id).or_insert(leaf.key_hash);
        assert_eq!(key, leaf.key_hash, "an id has one key");
        assert!(self.bound.len() <= USES as usize && self.used() == self.bound.len() as u64);
        assert!(self.authority.is_welcome(&leaf));
    }

    /// How often the token was used.
    fn used(&mut self) -> u64 {
        let tokens = self.authority.tokens().list(NOW).expect("tokens can be read");
        tokens.iter().find(|t| t.id == self.token.0).map_or(0, |t| t.used)
    }

    /// As if nobody had come.
    fn tidy(&mut self) {
        if self.bound.is_empty() {
            return;
        }
        for (id, _) in self.bound.drain() {
            assert!(self.authority.ban(id, NOW).expect("bindings can be written"));
            assert!(self.authority.unban(id, NOW).expect("bindings can be written"));
        }
        self.authority.tokens().revoke(&self.token.0, NOW).expect("tokens can be written");
        self.token = open_token(&mut self.authority);
    }
}

fn open_token(authority: &mut Authority) -> (String, [u8; SECRET_BYTES]) {
    let grant = Grant { role: Role::Agent, uses: Some(USES), expires_at: NOW + 3_600, note: String::new() };
    authority.tokens().create(&grant, NOW).expect("a token")
}
