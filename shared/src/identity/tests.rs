//! Identity as a whole: joining, renewing and being refused, over real TLS handshakes in memory, with a clock that the
//! test sets.

mod servers;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn::{
    ConnectionClose, ConnectionError, TransportErrorCode,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, Error, ServerConfig, ServerConnection,
    SignatureScheme,
    client::ResolvesClientCert,
    pki_types::{ServerName, UnixTime},
    sign::CertifiedKey,
    time_provider::TimeProvider,
};
use tempfile::TempDir;
use uuid::Uuid;

use super::{explain::raised, *};
use crate::{
    frame::{Issued, Join, Refusal, Role},
    record::Reason,
};

const T0: u64 = 1_700_000_000;

#[derive(Debug)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

fn at(seconds: u64) -> Arc<dyn TimeProvider> {
    Arc::new(Clock(AtomicU64::new(seconds)))
}

struct Cluster {
    dir: TempDir,
    authority: Authority,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), DOMAIN_DEFAULT, T0).unwrap();
        Self { dir, authority }
    }

    fn token(&mut self, uses: Option<u32>) -> Token {
        let grant = Grant { role: Role::Agent, uses, expires_at: T0 + 365 * DAY, note: String::new() };
        let (id, secret) = self.authority.tokens().create(&grant, T0).unwrap();
        Token { pin: self.authority.pin().unwrap(), id, secret, addresses: vec!["h:1".parse().unwrap()] }
    }

    fn server(&self, now: u64) -> ServerConfig {
        server_tls(self.authority.own(), self.authority.root(), at(now)).unwrap()
    }

    /// An agent that has joined at [`T0`].
    fn agent(&mut self, dir: &Path) -> AgentIdentity {
        self.agent_at(dir, T0)
    }

    fn agent_at(&mut self, dir: &Path, now: u64) -> AgentIdentity {
        let token = self.token(Some(1));
        let mut agent = AgentIdentity::open(dir).unwrap();
        let join = agent.join_request(&token, "a", 0).unwrap();
        agent.join(&token, &self.authority.enrol(&join, now).unwrap()).unwrap();
        agent
    }
}

fn dialling(agent: &AgentIdentity, now: u64) -> ClientConfig {
    client_tls(agent.own().unwrap(), agent.root().unwrap(), at(now)).unwrap()
}

fn accepting(agent: &AgentIdentity, now: u64) -> ServerConfig {
    agent_server_tls(agent.own().unwrap(), agent.root().unwrap(), at(now)).unwrap()
}

fn name_of(agent: &AgentIdentity) -> String {
    dns_name(Role::Agent, agent.peer_id().0, DOMAIN_DEFAULT)
}

/// What each end saw: its error, and the other's subject. The client's comes first.
fn handshake(client: ClientConfig, server: ServerConfig, name: &str) -> [(Result<(), Error>, Option<Subject>); 2] {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut ends = [Connection::from(client), ServerConnection::new(Arc::new(server)).unwrap().into()];
    let mut results = [Ok(()), Ok(())];
    for turn in 0..10 {
        let [from, to] = [turn % 2, 1 - turn % 2];
        let mut wire = Vec::new();
        while ends[from].wants_write() {
            ends[from].write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() && results[to].is_ok() {
            ends[to].read_tls(&mut wire).unwrap();
            results[to] = ends[to].process_new_packets().map(drop);
        }
    }
    let [a, b] = ends.map(|end| {
        let chain = end.peer_certificates().map(|c| c.iter().map(|c| c.clone().into_owned()).collect::<Vec<_>>());
        chain.map(|chain| Subject::of_peer(&chain).unwrap())
    });
    let [ra, rb] = results;
    [(ra, a), (rb, b)]
}

/// How the client explains that it was not content; what it knows over QUIC must lead it to the same.
fn explained(client: ClientConfig, server: ServerConfig, name: &str) -> (Reason, String) {
    let [(result, _), _] = handshake(client, server, name);
    let error = result.unwrap_err();
    let Error::InvalidCertificate(problem) = &error else { panic!("{error}") };
    let alert = AlertDescription::from(problem.clone());
    let (tls, quic) = (explain(&error), raised(alert.into(), &error.to_string()));
    assert_eq!(tls.0, quic.0);
    assert_eq!(tls.1[..30], quic.1[..30]);
    tls
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn an_agent_joins_with_a_token_and_peers_prove_who_they_are() {
    let mut cluster = Cluster::new();
    let token: Token = cluster.token(Some(1)).to_string().parse().unwrap();
    let [(client, server), (accepted, nobody)] =
        handshake(join_tls(token.pin, at(T0)).unwrap(), cluster.server(T0), JOIN_NAME);
    assert_eq!((client, accepted, nobody), (Ok(()), Ok(()), None));
    assert_eq!(server.as_ref(), Some(cluster.authority.subject()));

    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut a = AgentIdentity::open(dirs[0].path()).unwrap();
    assert!(!a.is_joined() && a.own().is_none() && a.homes().is_empty());
    let issued = cluster.authority.enrol(&a.join_request(&token, "a", 0).unwrap(), T0).unwrap();
    a.join(&token, &issued).unwrap();
    assert!(a.is_joined_by(&token) && a.homes() == token.addresses && a.domain() == Some(DOMAIN_DEFAULT));
    let b = cluster.agent(dirs[1].path());

    let [(x, home), (y, agent)] = handshake(dialling(&a, T0), cluster.server(T0), &home_name(DOMAIN_DEFAULT));
    assert_eq!((x, y), (Ok(()), Ok(())));
    assert_eq!((home.unwrap().role, agent.as_ref()), (Role::Server, a.subject()));
    assert!(cluster.authority.is_welcome(&agent.unwrap()));
    let [(x, seen_b), (y, seen_a)] = handshake(dialling(&a, T0), accepting(&b, T0), &name_of(&b));
    assert_eq!((x, y), (Ok(()), Ok(())));
    assert_eq!((seen_b.as_ref(), seen_a.as_ref()), (b.subject(), a.subject()));
}

#[test]
fn which_token_was_used_is_known_and_outlives_a_renewal() {
    let mut cluster = Cluster::new();
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = [cluster.token(Some(1)), cluster.token(Some(1))];
    let mut agent = AgentIdentity::open(dir.path()).unwrap();
    assert!(!agent.has_redeemed(&first));
    let join = agent.join_request(&first, "a", 0).unwrap();
    agent.join(&first, &cluster.authority.enrol(&join, T0).unwrap()).unwrap();
    let renewed = cluster.authority.renew(agent.subject().unwrap(), &agent.csr().unwrap(), T0).unwrap();
    agent.renew(&renewed).unwrap();
    drop(agent);
    let agent = AgentIdentity::open(dir.path()).unwrap();
    assert!(agent.has_redeemed(&first) && !agent.has_redeemed(&second) && agent.is_joined_by(&second));
    let other = Token { pin: [0; 32], ..first.clone() };
    assert!(!agent.has_redeemed(&other), "an id says nothing without its cluster");
    drop(agent);

    // A file from before this was kept.
    let file = dir.path().join("identity.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(state["joined"].as_object_mut().unwrap().remove("token").is_some());
    fs::write(&file, state.to_string()).unwrap();
    let agent = AgentIdentity::open(dir.path()).unwrap();
    assert!(agent.is_joined_by(&first) && !agent.has_redeemed(&first));
}

#[test]
fn quic_takes_all_four_configurations() {
    let mut cluster = Cluster::new();
    let dir = tempfile::tempdir().unwrap();
    let agent = cluster.agent(dir.path());
    for server in [cluster.server(T0), accepting(&agent, T0)] {
        QuicServerConfig::try_from(server).unwrap();
    }
    for client in [dialling(&agent, T0), join_tls(cluster.authority.pin().unwrap(), at(T0)).unwrap()] {
        QuicClientConfig::try_from(client).unwrap();
    }
}

#[test]
fn every_wrong_other_side_has_its_explanation() {
    let (mut ours, mut theirs) = (Cluster::new(), Cluster::new());
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let (a, b, foreign) = (ours.agent(dirs[0].path()), ours.agent(dirs[1].path()), theirs.agent(dirs[2].path()));
    let home = home_name(DOMAIN_DEFAULT);
    let check = |(reason, text): (Reason, String), words: &str| {
        assert_eq!(reason, Reason::Certificate, "{text}");
        assert!(text.contains(words), "{text}");
    };
    let pin = ours.authority.pin().unwrap();
    let join = || join_tls(pin, at(T0)).unwrap();
    check(explained(join(), theirs.server(T0), JOIN_NAME), "not the one that the token was made by");
    check(explained(dialling(&a, T0), theirs.server(T0), &home), "another cluster");
    check(explained(dialling(&a, T0), accepting(&b, T0), &name_of(&a)), &format!("{} was meant", name_of(&a)));
    check(explained(dialling(&a, T0), accepting(&b, T0), &home), "another peer answers");
    let [_, (refused, _)] = handshake(dialling(&a, T0), accepting(&foreign, T0), &name_of(&foreign));
    check(explain(&refused.unwrap_err()), "another cluster");
    // An agent under the pinned root that passes itself off as a server, root and all.
    let mut posing = accepting(&b, T0);
    posing.alpn_protocols.push(crate::frame::ALPN_JOIN.to_vec());
    check(explained(join(), posing, JOIN_NAME), "not a server but an agent");
    // Nobody, to an agent and to a home.
    let mut bare = dialling(&a, T0);
    bare.client_auth_cert_resolver = Arc::new(NoCertificate);
    let [(told, _), (refused, _)] = handshake(bare.clone(), accepting(&b, T0), &name_of(&b));
    check(explain(&refused.unwrap_err()), "showed no certificate");
    check(explain(&told.unwrap_err()), "join this agent first");
    let [(x, _), (y, nobody)] = handshake(bare, ours.server(T0), &home);
    assert_eq!((x, y, nobody), (Ok(()), Ok(()), None));
}

#[test]
fn what_expired_is_accepted_for_thirty_days_and_no_longer() {
    let mut cluster = Cluster::new();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [a, b] = dirs.each_ref().map(|d| cluster.agent(d.path()));
    let end = a.subject().unwrap().not_after;
    for now in [end, end + 1, end + GRACE_SECONDS] {
        let [(x, _), (y, _)] = handshake(dialling(&a, now), accepting(&b, now), &name_of(&b));
        assert_eq!((x, y), (Ok(()), Ok(())), "{now}");
        // The grace is for time alone.
        let (reason, text) = explained(dialling(&a, now), accepting(&b, now), &name_of(&a));
        assert!(reason == Reason::Certificate && text.contains("another peer answers"), "{text}");
    }
    let late = end + GRACE_SECONDS + 1;
    let (reason, text) = explained(dialling(&a, late), accepting(&b, late), &name_of(&b));
    assert!(
        reason == Reason::Certificate && text.contains("30days 1s ago") && text.contains("join it again"),
        "{text}"
    );
    let [(x, _), (y, _)] = handshake(dialling(&a, T0), accepting(&b, late), &name_of(&b));
    assert!(explain(&y.unwrap_err()).1.contains("join it again"));
    assert_eq!(explain(&x.unwrap_err()).0, Reason::Clock);
}

#[test]
fn a_clock_that_is_behind_is_called_a_clock() {
    let mut cluster = Cluster::new();
    let dir = tempfile::tempdir().unwrap();
    let agent = cluster.agent(dir.path());
    let home = home_name(DOMAIN_DEFAULT);
    let pin = cluster.authority.pin().unwrap();
    let slow = T0 - BACKDATE_SECONDS;
    let [(x, _), (y, _)] = handshake(dialling(&agent, slow), cluster.server(T0), &home);
    assert_eq!((x, y), (Ok(()), Ok(())));
    for client in [dialling(&agent, slow - 60), join_tls(pin, at(slow - 60)).unwrap()] {
        let (reason, text) = explained(client, cluster.server(T0), &home);
        assert!(reason == Reason::Clock && text.contains("for another 1m") && text.contains("date -u"), "{text}");
    }
    let [(told, _), (refused, _)] = handshake(dialling(&agent, T0), cluster.server(slow - 60), &home);
    assert_eq!(explain(&refused.unwrap_err()).0, Reason::Clock);
    let (reason, text) = explain(&told.unwrap_err());
    assert!(reason == Reason::Clock && text.contains("the other side's clock"), "{text}");
    let close = ConnectionClose {
        error_code: TransportErrorCode::crypto(AlertDescription::CertificateExpired.into()),
        frame_type: None,
        reason: Default::default(),
    };
    assert_eq!(explain_quic(&ConnectionError::ConnectionClosed(close)), Some((reason, text)));
    assert_eq!(explain_quic(&ConnectionError::TimedOut), None);
}

#[test]
fn an_id_stays_with_its_key_until_it_is_forgotten() {
    let mut cluster = Cluster::new();
    let token = cluster.token(Some(2));
    let (thief, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut agent, other) = (AgentIdentity::open(dir.path()).unwrap(), AgentIdentity::open(thief.path()).unwrap());
    let join = agent.join_request(&token, "a", 0).unwrap();
    let stolen = Join { id: join.id, ..other.join_request(&token, "a", 0).unwrap() };
    let authority = &mut cluster.authority;
    // The answer is lost; the same request again costs no use.
    for _ in 0..3 {
        let issued = authority.enrol(&join, T0).unwrap();
        agent.join(&token, &issued).unwrap();
    }
    assert_eq!(authority.tokens().list(T0).unwrap()[0].uses_left, Some(1));
    let refused = authority.enrol(&stolen, T0).unwrap_err();
    assert_eq!(refused.code, Refusal::IdTaken);
    assert!(refused.detail.contains(&format!("pams-server forget {}", join.id)), "{}", refused.detail);
    let subject = agent.subject().unwrap().clone();
    assert!(authority.is_welcome(&subject));
    assert!(authority.ban(join.id, T0).unwrap() && !authority.ban(join.id, T0).unwrap());
    assert!(!authority.is_welcome(&subject));
    assert_eq!(authority.renew(&subject, &join.csr, T0).unwrap_err().code, Refusal::Expired);
    authority.enrol(&stolen, T0).unwrap();
    assert_eq!(authority.renew(&subject, &join.csr, T0).unwrap_err().code, Refusal::IdTaken);
    assert_eq!(authority.tokens().list(T0).unwrap()[0].uses_left, Some(0));
    let refused = authority.enrol(&Join { id: Uuid::new_v4(), ..join }, T0).unwrap_err();
    assert_eq!(refused.code, Refusal::TokenUsedUp);
}

#[test]
fn a_join_that_is_refused_burns_no_use() {
    let mut cluster = Cluster::new();
    let token = cluster.token(Some(1));
    let dir = tempfile::tempdir().unwrap();
    let agent = AgentIdentity::open(dir.path()).unwrap();
    let good = agent.join_request(&token, "a", 0).unwrap();
    let mut unproven = good.clone();
    *unproven.csr.last_mut().unwrap() ^= 1;
    let cases = [
        (unproven, Refusal::Csr),
        (Join { csr: vec![0x30; 5_000], ..good.clone() }, Refusal::Csr),
        (Join { id: Uuid::nil(), ..good.clone() }, Refusal::Protocol),
        (Join { role: Role::Server, ..good.clone() }, Refusal::TokenRole),
        (Join { secret: vec![0; SECRET_BYTES], ..good.clone() }, Refusal::TokenSecret),
        (Join { token_id: "x".repeat(10_000), ..good.clone() }, Refusal::TokenUnknown),
    ];
    for (join, code) in cases {
        let refused = cluster.authority.enrol(&join, T0).unwrap_err();
        assert_eq!(refused.code, code);
        assert!(!refused.detail.is_empty() && refused.detail.len() <= crate::frame::DETAIL_BYTES_MAX);
    }
    cluster.authority.enrol(&good, T0).unwrap();
}

#[test]
fn an_expired_leaf_is_renewed_for_the_same_key_and_shown_without_a_restart() {
    let mut cluster = Cluster::new();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [mut a, b] = dirs.each_ref().map(|d| cluster.agent(d.path()));
    let old = a.subject().unwrap().clone();
    assert!(!a.needs_renewal(T0) && a.needs_renewal(T0 + LEAF_SECONDS * 2 / 3));
    let authority = &mut cluster.authority;
    let late = old.not_after + GRACE_SECONDS;
    assert_eq!(authority.renew(&old, &a.csr().unwrap(), late + 1).unwrap_err().code, Refusal::Expired);
    assert_eq!(authority.renew(&old, &b.csr().unwrap(), T0).unwrap_err().code, Refusal::Csr);
    let issued = authority.renew(&old, &a.csr().unwrap(), late).unwrap();
    let client = dialling(&a, late); // made before the renewal
    assert!(matches!(a.renew(&Issued { domain: "other".into(), ..issued.clone() }), Err(IdentityError::Issued(_))));
    let others = authority.renew(b.subject().unwrap(), &b.csr().unwrap(), late).unwrap();
    assert!(matches!(a.renew(&others), Err(IdentityError::Issued(_))));
    let cut = Issued { chain: issued.chain[..1].to_vec(), ..issued.clone() };
    assert!(matches!(a.renew(&cut), Err(IdentityError::Issued(_))));
    assert_eq!(a.subject(), Some(&old));
    a.renew(&issued).unwrap();
    assert!(authority.renew_due(late).unwrap().renewed && !authority.renew_due(late).unwrap().renewed);
    let [(x, _), (y, seen)] = handshake(client, cluster.server(late), &home_name(DOMAIN_DEFAULT));
    assert_eq!((x, y, seen.as_ref()), (Ok(()), Ok(()), a.subject()));
    drop(a);
    assert_eq!(AgentIdentity::open(dirs[0].path()).unwrap().subject(), seen.as_ref());
}

#[test]
fn a_restart_keeps_ids_and_keys_and_counts() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut cluster = Cluster::new();
    let agent = cluster.agent(dirs[0].path());
    let (id, epoch, reset) = (agent.peer_id(), agent.epoch(), *agent.reset_key());
    let message = AgentIdentity::open(dirs[0].path()).unwrap_err().to_string();
    assert!(message.contains("another pams-agent runs there"), "{message}");
    drop(agent);
    let agent = AgentIdentity::open(dirs[0].path()).unwrap();
    assert_eq!((agent.peer_id(), agent.epoch(), *agent.reset_key()), (id, epoch + 1, reset));
    assert!(agent.is_joined());

    let Cluster { dir, authority } = cluster;
    let message = Authority::open(dir.path(), DOMAIN_DEFAULT, T0).unwrap_err().to_string();
    assert!(message.contains("another pams-server runs there"), "{message}");
    let before =
        (authority.server_id(), authority.pin().unwrap(), *authority.reset_key(), authority.subject().key_hash);
    assert!(authority.is_first_start() && authority.generation() == 1);
    let expiry = authority.expiry().unwrap();
    assert!(expiry.leaf == authority.subject().not_after && expiry.leaf < expiry.intermediate, "{expiry:?}");
    assert!(expiry.intermediate < expiry.root, "{expiry:?}");
    drop(authority);
    let message = Authority::open(dir.path(), "other.example", T0).unwrap_err().to_string();
    assert!(message.contains("belongs to the trust domain pams.internal"), "{message}");
    let authority = Authority::open(dir.path(), DOMAIN_DEFAULT, T0).unwrap();
    assert!(!authority.is_first_start() && authority.generation() == 2 && !authority.was_torn());
    let after = (authority.server_id(), authority.pin().unwrap(), *authority.reset_key(), authority.subject().key_hash);
    assert_eq!(before, after);
    assert_eq!(pin_of(dir.path()).unwrap(), after.1);
    assert!(authority.is_welcome(agent.subject().unwrap()));
    for file in [dir.path(), dirs[0].path()].iter().flat_map(|d| fs::read_dir(d).unwrap()) {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn what_is_missing_or_damaged_is_named_and_never_made_anew() {
    for file in ["server.json", "root.pem", "bindings"] {
        let Cluster { dir, authority } = Cluster::new();
        drop(authority);
        let path = dir.path().join(file);
        for damage in [true, false] {
            if damage {
                fs::write(&path, "{x\n").unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            let message = Authority::open(dir.path(), DOMAIN_DEFAULT, T0).unwrap_err().to_string();
            assert!(message.contains(path.to_str().unwrap()) && message.contains("restore"), "{message}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let id = AgentIdentity::open(dir.path()).unwrap().peer_id();
    let path = dir.path().join("identity.json");
    let whole = fs::read(&path).unwrap();
    for cut in [0, 1, whole.len() / 2, whole.len() - 2] {
        fs::write(&path, &whole[..cut]).unwrap();
        let message = AgentIdentity::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains("identity.json") && message.contains("new peer"), "{message}");
    }
    // Power went while the next state was being written.
    fs::write(&path, &whole).unwrap();
    fs::write(dir.path().join("identity.json.tmp"), &whole[..9]).unwrap();
    assert_eq!(AgentIdentity::open(dir.path()).unwrap().peer_id(), id);
}

#[test]
fn an_interrupted_first_start_begins_again() {
    let whole = Cluster::new();
    for kept in [&["root.pem"][..], &["root.pem", "ca.pem"]] {
        let dir = tempfile::tempdir().unwrap();
        for file in kept {
            fs::copy(whole.dir.path().join(file), dir.path().join(file)).unwrap();
        }
        let authority = Authority::open(dir.path(), DOMAIN_DEFAULT, T0).unwrap();
        assert!(authority.is_first_start() && authority.pin().unwrap() == whole.authority.pin().unwrap());
        let server = server_tls(authority.own(), authority.root(), at(T0)).unwrap();
        let [(x, seen), _] = handshake(join_tls(authority.pin().unwrap(), at(T0)).unwrap(), server, JOIN_NAME);
        assert_eq!((x, seen.as_ref()), (Ok(()), Some(authority.subject())));
    }
}

#[test]
fn a_joined_agent_takes_no_token_of_another_cluster() {
    let (mut ours, mut theirs) = (Cluster::new(), Cluster::new());
    let dir = tempfile::tempdir().unwrap();
    let mut agent = ours.agent(dir.path());
    let (again, other) = (ours.token(None), theirs.token(None));
    let issued = theirs.authority.enrol(&agent.join_request(&other, "a", 0).unwrap(), T0).unwrap();
    assert!(!agent.is_joined_by(&other) && agent.is_joined_by(&again));
    assert!(matches!(agent.join(&other, &issued), Err(IdentityError::OtherCluster)));
    assert!(matches!(agent.join(&again, &issued), Err(IdentityError::Issued(_))));
    let moved = Token { addresses: vec!["new:2".parse().unwrap()], ..again };
    let issued = ours.authority.enrol(&agent.join_request(&moved, "a", 0).unwrap(), T0).unwrap();
    agent.join(&moved, &issued).unwrap();
    assert_eq!(agent.homes(), moved.addresses);
}
