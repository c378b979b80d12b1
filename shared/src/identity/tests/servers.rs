//! Several servers under one root: joining, who is welcome where, renewing intermediates, and what is on disk.

use super::*;
use crate::id::ServerId;

/// A directory of a server that joined.
struct Second {
    dir: TempDir,
    authority: Authority,
}

impl Cluster {
    fn server_token(&mut self) -> Token {
        let grant = Grant { role: Role::Server, uses: Some(1), expires_at: T0 + DAY, note: String::new() };
        let (id, secret) = self.authority.tokens().create(&grant, T0).unwrap();
        let addresses = vec!["first:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
        Token { pin: self.authority.pin().unwrap(), id, secret, addresses }
    }

    fn second(&mut self) -> Second {
        let (dir, token) = (tempfile::tempdir().unwrap(), self.server_token());
        let applicant = Applicant::open(dir.path(), &token).unwrap().unwrap();
        let issued = self.authority.enrol(&applicant.join_request(&token, "s2", 0).unwrap(), T0).unwrap();
        applicant.join(&token, &issued, None).unwrap();
        let authority = Authority::open(dir.path(), None, T0).unwrap();
        Second { dir, authority }
    }
}

/// An agent that has joined at this server.
fn agent_of(authority: &mut Authority, dir: &Path, now: u64) -> AgentIdentity {
    let grant = Grant { role: Role::Agent, uses: Some(1), expires_at: now + DAY, note: String::new() };
    let (id, secret) = authority.tokens().create(&grant, now).unwrap();
    let token = Token { pin: authority.pin().unwrap(), id, secret, addresses: vec!["h:1".parse().unwrap()] };
    let mut agent = AgentIdentity::open(dir).unwrap();
    let join = agent.join_request(&token, "a", 0).unwrap();
    agent.join(&token, &authority.enrol(&join, now).unwrap()).unwrap();
    agent
}

fn serving(authority: &Authority, now: u64) -> ServerConfig {
    server_tls(authority.own(), authority.root(), at(now)).unwrap()
}

fn as_server(authority: &Authority, now: u64) -> ClientConfig {
    client_tls(authority.own(), authority.root(), at(now)).unwrap()
}

#[test]
fn a_server_joins_with_a_token_and_all_of_one_root_know_each_other() {
    let mut cluster = Cluster::new();
    let token: Token = cluster.server_token().to_string().parse().unwrap();
    let dirs: [TempDir; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let applicant = Applicant::open(dirs[0].path(), &token).unwrap().unwrap();
    let [(x, _), _] = handshake(join_tls(token.pin, at(T0)).unwrap(), cluster.server(T0), JOIN_NAME);
    assert_eq!(x, Ok(()));
    let issued = cluster.authority.enrol(&applicant.join_request(&token, "s2", 0).unwrap(), T0).unwrap();
    let reset_key = *applicant.reset_key();
    applicant.join(&token, &issued, Some(DOMAIN_DEFAULT)).unwrap();
    let mut second = Authority::open(dirs[0].path(), DOMAIN_DEFAULT, T0).unwrap();
    assert!(second.is_first_start() && !second.has_root_key() && cluster.authority.has_root_key());
    assert_eq!(
        (second.domain(), second.seeds(), second.reset_key()),
        (DOMAIN_DEFAULT, &token.addresses[..], &reset_key)
    );
    assert_eq!((second.pin().unwrap(), cluster.authority.seeds()), (token.pin, &[][..]));

    // Its agents join it as they join any, and are known by everybody.
    let [(x, seen), _] = handshake(join_tls(token.pin, at(T0)).unwrap(), serving(&second, T0), JOIN_NAME);
    assert_eq!((x, seen.as_ref()), (Ok(()), Some(second.subject())));
    let (a, b) = (cluster.agent(dirs[1].path()), agent_of(&mut second, dirs[2].path(), T0));
    let [(x, seen_b), (y, seen_a)] = handshake(dialling(&a, T0), accepting(&b, T0), &name_of(&b));
    assert_eq!((x, y), (Ok(()), Ok(())));
    assert_eq!(seen_a.unwrap().issuer, Some(cluster.authority.server_id()));
    assert_eq!(seen_b.unwrap().issuer, Some(second.server_id()));
    for (agent, server) in [(&a, &second), (&b, &cluster.authority)] {
        let [(x, _), (y, seen)] = handshake(dialling(agent, T0), serving(server, T0), &home_name(DOMAIN_DEFAULT));
        assert_eq!((x, y), (Ok(()), Ok(())));
        assert!(server.is_welcome(&seen.unwrap()));
    }

    // Servers dial each other by their ids.
    let first = &cluster.authority;
    for (from, to) in [(first, &second), (&second, first)] {
        let name = dns_name(Role::Server, to.server_id().0, DOMAIN_DEFAULT);
        let [(x, called), (y, caller)] = handshake(as_server(from, T0), serving(to, T0), &name);
        assert_eq!((x, y), (Ok(()), Ok(())));
        assert_eq!((called.as_ref(), caller.as_ref()), (Some(to.subject()), Some(from.subject())));
        assert!(to.is_welcome(from.subject()) && !to.is_welcome(to.subject()));
        let (_, text) = explained(as_server(from, T0), serving(from, T0), &name);
        assert!(text.contains("another peer answers"), "{text}");
    }

    drop(second);
    let second = Authority::open(dirs[0].path(), None, T0).unwrap();
    assert!(!second.is_first_start() && second.generation() == 2 && second.is_welcome(b.subject().unwrap()));
    for file in fs::read_dir(dirs[0].path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn the_domain_is_the_clusters() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::open(first.path(), "games.example", T0).unwrap();
    let mut cluster = Cluster { dir: first, authority };
    let token = cluster.server_token();
    let applicant = || Applicant::open(second.path(), &token).unwrap().unwrap();
    let asking = applicant();
    let issued = cluster.authority.enrol(&asking.join_request(&token, "s2", 0).unwrap(), T0).unwrap();
    let message = asking.join(&token, &issued, Some("other.example")).unwrap_err().to_string();
    assert!(message.contains("games.example, not to other.example"), "{message}");
    applicant().join(&token, &issued, None).unwrap();
    let message = Authority::open(second.path(), DOMAIN_DEFAULT, T0).unwrap_err().to_string();
    assert!(message.contains("start with the domain games.example"), "{message}");
    assert_eq!(Authority::open(second.path(), None, T0).unwrap().subject().domain, "games.example");
}

#[test]
fn a_lost_answer_costs_no_use_and_an_id_stays_with_its_key() {
    let mut cluster = Cluster::new();
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let token = cluster.server_token();
    for _ in 0..3 {
        let applicant = Applicant::open(dir.path(), &token).unwrap().unwrap();
        cluster.authority.enrol(&applicant.join_request(&token, "s2", 0).unwrap(), T0).unwrap();
    }
    let join = Applicant::open(dir.path(), &token).unwrap().unwrap().join_request(&token, "s2", 0).unwrap();
    let used_up = Join { id: Uuid::new_v4(), ..join.clone() };
    assert_eq!(cluster.authority.enrol(&used_up, T0).unwrap_err().code, Refusal::TokenUsedUp);
    let fresh = cluster.server_token();
    let thief = Applicant::open(other.path(), &fresh).unwrap().unwrap().join_request(&fresh, "s3", 0).unwrap();
    for id in [join.id, cluster.authority.server_id().0] {
        let refused = cluster.authority.enrol(&Join { id, ..thief.clone() }, T0).unwrap_err();
        assert_eq!(refused.code, Refusal::IdTaken);
        assert!(refused.detail.contains(&format!("server {id} belongs")), "{}", refused.detail);
    }
    let nobody = Join { id: Uuid::nil(), ..thief.clone() };
    assert_eq!(cluster.authority.enrol(&nobody, T0).unwrap_err().code, Refusal::Protocol);
    cluster.authority.enrol(&thief, T0).unwrap();
}

#[test]
fn a_token_of_the_wrong_role_says_what_it_is_for() {
    let mut cluster = Cluster::new();
    let (for_agents, for_servers) = (cluster.token(Some(1)), cluster.server_token());
    let dirs: [TempDir; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let agent = AgentIdentity::open(dirs[0].path()).unwrap().join_request(&for_servers, "a", 0).unwrap();
    let refused = cluster.authority.enrol(&agent, T0).unwrap_err();
    assert_eq!(refused.code, Refusal::TokenRole);
    assert!(refused.detail.contains("start pams-server with it, or make a new one with `pams-server token create` on"));
    let server = Applicant::open(dirs[1].path(), &for_agents).unwrap().unwrap();
    let refused = cluster.authority.enrol(&server.join_request(&for_agents, "s", 0).unwrap(), T0).unwrap_err();
    assert_eq!(refused.code, Refusal::TokenRole);
    assert!(
        refused.detail.contains("start pams-agent with it, or make a new one with `pams-server token create --role")
    );
    assert!(cluster.authority.tokens().list(T0).unwrap().iter().all(|t| t.used == 0));
}

#[test]
fn without_the_roots_key_no_server_is_let_in() {
    let mut cluster = Cluster::new();
    let (mut second, third) = (cluster.second(), cluster.second());
    let grant = Grant { role: Role::Server, uses: Some(1), expires_at: T0 + DAY, note: String::new() };
    let message = second.authority.tokens().create(&grant, T0).unwrap_err().to_string();
    assert!(
        message.contains("only a server with the root's key") && message.ends_with("first:1, [::1]:2"),
        "{message}"
    );
    let (dir, token) = (tempfile::tempdir().unwrap(), cluster.server_token());
    let join = Applicant::open(dir.path(), &token).unwrap().unwrap().join_request(&token, "s", 0).unwrap();
    let asked = third.authority.ca_request().unwrap();
    for refused in [second.authority.enrol(&join, T0), second.authority.renew(third.authority.subject(), &asked, T0)] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, Refusal::TokenRole);
        assert!(refused.detail.contains("only a server with the root's key"), "{}", refused.detail);
    }
    // With the file from a backup of the first, the second can stand in for it.
    let root = fs::read(cluster.dir.path().join("root.pem")).unwrap();
    let Second { dir: kept, authority } = second;
    drop(authority);
    fs::write(kept.path().join("root.pem"), root).unwrap();
    let mut second = Authority::open(kept.path(), None, T0).unwrap();
    assert!(second.has_root_key() && second.renew(third.authority.subject(), &asked, T0).is_ok());
    assert!(second.tokens().create(&grant, T0).is_ok());
}

#[test]
fn an_intermediate_is_renewed_by_a_server_with_the_roots_key() {
    let mut cluster = Cluster::new();
    let (mut second, mut other) = (cluster.second(), cluster.second());
    let due = T0 + 365 * DAY * 2 / 3;
    let file = || fs::read(second.dir.path().join("ca.pem")).unwrap();
    let before = (file(), second.authority.expiry().unwrap().intermediate);
    let renewal = |renewed, intermediate_due| Renewal { renewed, intermediate_due };
    assert_eq!(second.authority.renew_due(due - 1).unwrap(), renewal(true, false));
    assert_eq!(second.authority.renew_due(due).unwrap(), renewal(false, true));
    assert_eq!(other.authority.renew_due(due).unwrap(), renewal(true, true), "its leaf it signs itself");
    assert_eq!(file(), before.0);

    let (subject, request) = (second.authority.subject().clone(), second.authority.ca_request().unwrap());
    let first = &mut cluster.authority;
    assert_eq!(first.renew(&subject, &[1, 2], due).unwrap_err().code, Refusal::Csr);
    let others = other.authority.ca_request().unwrap();
    assert_eq!(first.renew(&subject, &others, due).unwrap_err().code, Refusal::IdTaken);
    // A server that vouches for itself as another.
    let posing = Subject { issuer: Some(other.authority.server_id()), ..subject.clone() };
    assert_eq!(first.renew(&posing, &request, due).unwrap_err().code, Refusal::Expired);
    let issued = first.renew(&subject, &request, due).unwrap();

    let wrong = first.renew(other.authority.subject(), &others, due).unwrap();
    let long = Issued { chain: [issued.chain.clone(), issued.chain.clone()].concat(), ..issued.clone() };
    let foreign = Issued { root: Cluster::new().authority.root().to_vec(), ..issued.clone() };
    for bad in [wrong, long, foreign, Issued { chain: vec![], ..issued.clone() }] {
        assert!(matches!(second.authority.install_ca(&bad, due), Err(IdentityError::Issued(_))));
    }
    assert_eq!(file(), before.0);
    second.authority.install_ca(&issued, due).unwrap();
    assert!(file() != before.0 && second.authority.expiry().unwrap().intermediate > before.1);
    assert_eq!(second.authority.renew_due(due).unwrap(), renewal(false, false));
    // What the new one signs and what the old one signed lead to the same root.
    let dirs: [TempDir; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (new, old) = (agent_of(&mut second.authority, dirs[0].path(), due), other.authority);
    let home = home_name(DOMAIN_DEFAULT);
    let pairs = [(dialling(&new, due), serving(&old, due)), (as_server(&old, due), serving(&second.authority, due))];
    for (client, server) in pairs {
        let [(x, _), (y, _)] = handshake(client, server, &home);
        assert_eq!((x, y), (Ok(()), Ok(())));
    }

    assert!(cluster.authority.ban(subject.id, due).unwrap());
    let refused = cluster.authority.renew(&subject, &request, due).unwrap_err();
    assert_eq!(refused.code, Refusal::Expired);
    assert!(refused.detail.contains("token create --role server"), "{}", refused.detail);
}

#[test]
fn who_is_welcome_is_bound_here_or_vouched_for_by_another_server() {
    let mut cluster = Cluster::new();
    let Second { dir: _kept, authority: mut second } = cluster.second();
    let dirs: [TempDir; 2] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let (mine, mut theirs) = (cluster.agent(dirs[0].path()), agent_of(&mut second, dirs[1].path(), T0));
    let first = &mut cluster.authority;
    let moved = theirs.subject().unwrap().clone();
    assert!(first.is_welcome(&moved) && first.is_welcome(mine.subject().unwrap()));

    // Renewed away from home, it is bound there too: no other key can have its id.
    let csr = theirs.csr().unwrap();
    theirs.renew(&first.renew(&moved, &csr, T0).unwrap()).unwrap();
    assert_eq!(theirs.subject().unwrap().issuer, Some(first.server_id()));
    let posing = Subject { key_hash: [7; 32], ..moved.clone() };
    assert!(first.is_welcome(&moved) && !first.is_welcome(&posing));
    assert_eq!(first.renew(&posing, &mine.csr().unwrap(), T0).unwrap_err().code, Refusal::Csr);

    // Forgotten at one, it is turned away there, whoever signed for it, and nowhere else.
    assert!(first.ban(moved.id, T0).unwrap());
    for subject in [&moved, theirs.subject().unwrap()] {
        assert!(!first.is_welcome(subject) && second.is_welcome(subject));
        assert_eq!(first.renew(subject, &csr, T0).unwrap_err().code, Refusal::Expired);
    }
    // Told of it, the other turns it away as well; until it is known that it joined anew.
    assert!(second.ban(moved.id, T0).unwrap() && !second.is_welcome(&moved));
    assert!(first.unban(moved.id, T0).unwrap() && second.unban(moved.id, T0).unwrap());
    assert!(first.is_welcome(&moved), "vouched for by the other");
    assert!(!second.is_welcome(&moved), "signed here and not bound: forgotten");
    assert!(!first.is_welcome(theirs.subject().unwrap()) && second.is_welcome(theirs.subject().unwrap()));

    // A token ends a ban where it is used.
    first.ban(mine.subject().unwrap().id, T0).unwrap();
    drop(mine);
    let mine = agent_of(first, dirs[0].path(), T0);
    assert!(first.is_welcome(mine.subject().unwrap()));

    // Of a server that was forgotten nobody is welcome, unless bound here.
    let unbound = Subject { id: Uuid::new_v4(), ..moved };
    let nameless = Subject { issuer: None, ..unbound.clone() };
    assert!(first.is_welcome(&unbound) && !first.is_welcome(&nameless));
    assert!(first.ban(second.server_id().0, T0).unwrap());
    assert!(!first.is_welcome(&unbound) && !first.is_welcome(second.subject()));
    let strange = Subject { issuer: Some(ServerId(Uuid::new_v4())), ..second.subject().clone() };
    assert!(!first.is_welcome(&strange));
}

#[test]
fn wherever_the_power_goes_joining_begins_again() {
    let mut cluster = Cluster::new();
    let (whole, token) = (tempfile::tempdir().unwrap(), cluster.server_token());
    let applicant = Applicant::open(whole.path(), &token).unwrap().unwrap();
    let join = applicant.join_request(&token, "s2", 0).unwrap();
    let read = |file: &str| fs::read(whole.path().join(file)).unwrap();
    let before = read("server.json");
    let issued = cluster.authority.enrol(&join, T0).unwrap();
    applicant.join(&token, &issued, None).unwrap();
    // Its answer, in the order in which it is written.
    for written in [&["ca.pem"][..], &["ca.pem", "root.pem"]] {
        let dir = || {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("server.json"), &before).unwrap();
            written.iter().for_each(|file| fs::write(dir.path().join(file), read(file)).unwrap());
            dir
        };
        let again = dir();
        let applicant = Applicant::open(again.path(), &token).unwrap().unwrap();
        let repeated = applicant.join_request(&token, "s2", 0).unwrap();
        assert_eq!((repeated.id, repeated.csr.len()), (join.id, join.csr.len()));
        let issued = cluster.authority.enrol(&repeated, T0).unwrap();
        applicant.join(&token, &issued, None).unwrap();
        assert_eq!(Authority::open(again.path(), None, T0).unwrap().server_id().0, join.id);
        // Or the operator thinks better of it.
        let alone = dir();
        let founder = Authority::open(alone.path(), "games.example", T0).unwrap();
        assert!(founder.has_root_key() && founder.seeds().is_empty() && founder.pin().unwrap() != token.pin);
        drop(founder);
        assert!(Authority::open(alone.path(), None, T0).is_ok());
    }
    // The other way round: a server that made its root and got no further joins.
    let dir = tempfile::tempdir().unwrap();
    fs::copy(Cluster::new().dir.path().join("root.pem"), dir.path().join("root.pem")).unwrap();
    assert!(Applicant::open(dir.path(), &token).unwrap().is_some());
    // Joined, and not yet counted.
    assert!(Applicant::open(whole.path(), &token).unwrap().is_none());
    let second = Authority::open(whole.path(), None, T0).unwrap();
    assert!(second.is_first_start() && second.pin().unwrap() == token.pin && !second.has_root_key());
}

#[test]
fn a_server_that_has_a_cluster_joins_no_other() {
    let (mut ours, mut theirs) = (Cluster::new(), Cluster::new());
    let (our, their) = (ours.server_token(), theirs.server_token());
    let Second { dir, authority } = ours.second();
    let message = Applicant::open(dir.path(), &our).unwrap_err().to_string();
    assert!(message.contains("another pams-server runs there"), "{message}");
    let id = authority.server_id();
    drop(authority);
    let founder = theirs.dir.path();
    drop(theirs.authority);
    for (dir, token) in [(dir.path(), &their), (founder, &our), (founder, &their)] {
        let message = Applicant::open(dir, token).unwrap_err().to_string();
        assert!(message.contains("start this one without --join"), "{message}");
    }
    // Another token of its own cluster: it was forgotten, say.
    assert!(ours.authority.ban(id.0, T0).unwrap());
    let applicant = Applicant::open(dir.path(), &our).unwrap().unwrap();
    assert!(applicant.has_joined());
    let moved = Token { addresses: vec!["elsewhere:9".parse().unwrap()], ..our.clone() };
    let issued = ours.authority.enrol(&applicant.join_request(&our, "s2", 0).unwrap(), T0).unwrap();
    applicant.join(&moved, &issued, None).unwrap();
    assert!(Applicant::open(dir.path(), &our).unwrap().is_none());
    let second = Authority::open(dir.path(), None, T0).unwrap();
    assert_eq!((second.server_id(), second.seeds()), (id, &moved.addresses[..]));
    assert!(ours.authority.is_welcome(second.subject()));
}

#[test]
fn what_a_joined_server_misses_is_named_and_never_made_anew() {
    for file in ["server.json", "root.pem", "ca.pem", "bindings"] {
        let Second { dir, authority } = Cluster::new().second();
        drop(authority);
        let path = dir.path().join(file);
        for damage in [true, false] {
            if damage {
                fs::write(&path, "{x\n").unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            let message = Authority::open(dir.path(), None, T0).unwrap_err().to_string();
            assert!(message.contains(path.to_str().unwrap()) && message.contains("restore"), "{message}");
        }
    }
    // Of another server, of another root; and a founder without its root's key.
    let mut cluster = Cluster::new();
    let (second, third, foreign) = (cluster.second(), cluster.second(), Cluster::new().second());
    let (other, ca) = (third.dir.path().join("ca.pem"), second.dir.path().join("ca.pem"));
    drop(second.authority);
    for (from, told) in [(other, "names another server"), (foreign.dir.path().join("ca.pem"), "another server")] {
        fs::copy(from, &ca).unwrap();
        let message = Authority::open(second.dir.path(), None, T0).unwrap_err().to_string();
        assert!(message.contains("ca.pem") && message.contains(told), "{message}");
    }
    drop(cluster.authority);
    fs::copy(second.dir.path().join("root.pem"), cluster.dir.path().join("root.pem")).unwrap();
    let message = Authority::open(cluster.dir.path(), None, T0).unwrap_err().to_string();
    assert!(message.contains("root.pem") && message.contains("its key is missing"), "{message}");
}

#[test]
fn a_server_that_runs_for_years_renews_its_intermediate_under_the_same_root() {
    let mut cluster = Cluster::new();
    let dir = tempfile::tempdir().unwrap();
    let pin = cluster.authority.pin().unwrap();
    let ca_file = cluster.dir.path().join("ca.pem");
    let ca = || fs::read(&ca_file).unwrap();
    let before = ca();
    let due = T0 + 365 * DAY * 2 / 3;
    assert!(cluster.authority.renew_due(due - DAY).unwrap().renewed);
    assert_eq!(ca(), before);
    let agent = cluster.agent_at(dir.path(), due - DAY);
    assert!(cluster.authority.renew_due(due).unwrap().renewed);
    assert_ne!(ca(), before);
    let [(x, _), (y, _)] = handshake(join_tls(pin, at(due)).unwrap(), cluster.server(due), JOIN_NAME);
    assert_eq!((x, y), (Ok(()), Ok(())));
    // What the old one signed still leads to the root.
    let [(x, _), (y, _)] = handshake(dialling(&agent, due), cluster.server(due), &home_name(DOMAIN_DEFAULT));
    assert_eq!((x, y), (Ok(()), Ok(())));
}
