use std::collections::BTreeMap;

use super::{
    srv::{Target, order},
    zone::{Manner, Nameserver, Zone},
    *,
};

const SERVICE: &str = "_pams._udp.example.org";

fn zone() -> Zone {
    Zone {
        srv: vec![
            (SERVICE, 20, 0, 7422, "spare.example.org"),
            (SERVICE, 10, 5, 7420, "s1.example.org"),
            (SERVICE, 10, 0, 7421, "localhost"),
            ("_off._udp.example.org", 0, 0, 0, "."),
            ("_half._udp.example.org", 0, 0, 0, "."),
            ("_half._udp.example.org", 1, 0, 7, "s1.example.org"),
            ("_lost._udp.example.org", 0, 0, 7, "no-such-host.invalid"),
        ],
        hosts: vec![
            ("spare.example.org", "192.0.2.9".parse().unwrap()),
            ("s1.example.org", "192.0.2.1".parse().unwrap()),
            ("s1.example.org", "2001:db8::1".parse().unwrap()),
        ],
        aliases: vec![("_alias._udp.example.org", SERVICE), ("_circle._udp.example.org", "_circle._udp.example.org")],
        bare: vec!["_bare._udp.example.org"],
    }
}

/// What `service` comes to, and the questions that came by UDP and TCP.
async fn resolve(service: &str, manner: Manner) -> (Result<Vec<String>, String>, [usize; 2]) {
    let nameserver = Nameserver::start(zone(), manner).await;
    let found = Resolver::of(vec![nameserver.at]).resolve(service).await;
    let found = found.map(|all| all.iter().map(ToString::to_string).collect());
    (found.map_err(|why| why.text.replace(&nameserver.at.to_string(), "NS")), nameserver.asked())
}

#[tokio::test]
async fn a_service_gives_the_addresses_of_all_its_targets_in_order() {
    for (service, manner, asked) in [
        (SERVICE, Manner::Well, [1, 0]),
        ("_PAMS._udp.Example.ORG.", Manner::Well, [1, 0]),
        ("_alias._udp.example.org", Manner::Well, [1, 0]),
        (SERVICE, Manner::Truncated, [1, 1]),
        (SERVICE, Manner::GarbageFirst, [1, 0]),
    ] {
        let (found, seen) = resolve(service, manner).await;
        let found = found.unwrap();
        assert_eq!(seen, asked, "{service} {manner:?}");
        // One host comes without addresses; the system knows it.
        let (equals, spare) = found.split_at(found.len() - 1);
        let own: Vec<&str> = equals.iter().map(String::as_str).filter(|at| !at.ends_with(":7421")).collect();
        assert_eq!((own, spare), (vec!["192.0.2.1:7420", "[2001:db8::1]:7420"], &["192.0.2.9:7422".to_owned()][..]));
        assert!(equals.len() > 2, "{found:?}");
    }
    assert_eq!(resolve("_half._udp.example.org", Manner::Well).await.0.unwrap().len(), 2);
}

#[tokio::test]
async fn each_answer_that_names_no_server_says_why() {
    for (service, manner, text) in [
        (
            "_none._udp.example.org",
            Manner::Well,
            "no SRV record for _none._udp.example.org: there is no such name in DNS",
        ),
        (
            "_bare._udp.example.org",
            Manner::Well,
            "no SRV record for _bare._udp.example.org: its name is there, without one",
        ),
        (
            "_off._udp.example.org",
            Manner::Well,
            "_off._udp.example.org is not offered: the target of its SRV record is \".\"",
        ),
        (
            "_lost._udp.example.org",
            Manner::Well,
            "none of the servers that the SRV records of _lost._udp.example.org name has an address: no-such-host.invalid",
        ),
        (SERVICE, Manner::Failing, "_pams._udp.example.org can't be looked up: nameserver NS answers SERVFAIL"),
        (
            SERVICE,
            Manner::TruncatedOnly,
            "_pams._udp.example.org can't be looked up: nameserver NS: its answer needs TCP: unexpected end of file",
        ),
    ] {
        assert_eq!(resolve(service, manner).await.0.unwrap_err(), text);
    }
    for (service, manner) in [("_circle._udp.example.org", Manner::Well), (SERVICE, Manner::Damaged)] {
        let told = resolve(service, manner).await.0.unwrap_err();
        assert!(told.starts_with(&format!("the nameserver's answer about {service} is damaged: ")), "{told}");
    }
    let long = format!("_pams._udp.{}", "a".repeat(64));
    assert!(Resolver::default().resolve(&long).await.unwrap_err().text.contains("is no name of DNS"));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_in_time_and_another_nameserver_is_asked() {
    let start = tokio::time::Instant::now();
    let (told, asked) = resolve(SERVICE, Manner::Silent).await;
    assert_eq!(told.unwrap_err(), "_pams._udp.example.org can't be looked up: nameserver NS: no answer");
    assert_eq!((asked, start.elapsed().as_millis()), ([2, 0], 1_800));
    let silent = Nameserver::start(zone(), Manner::Silent).await;
    let start = tokio::time::Instant::now();
    Resolver::of(vec![silent.at; 5]).resolve(SERVICE).await.unwrap_err();
    assert_eq!((silent.asked(), start.elapsed().as_millis()), ([4, 0], 3_000), "three of them, and no longer");
}

#[tokio::test]
async fn the_next_nameserver_is_asked_when_one_can_not() {
    let (failing, well) =
        (Nameserver::start(zone(), Manner::Failing).await, Nameserver::start(zone(), Manner::Well).await);
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // and nothing listens there any more
    let found = Resolver::of(vec![closed, failing.at, well.at]).resolve("_half._udp.example.org").await.unwrap();
    assert_eq!((found.len(), failing.asked(), well.asked()), (2, [1, 0], [1, 0]));
}

#[tokio::test]
async fn of_much_a_bounded_part_is_taken() {
    let hosts = vec![("s.example.org", "192.0.2.1".parse().unwrap())];
    let srv = (1..=100).map(|port| (SERVICE, 100 - port, 0, port, "s.example.org")).collect();
    let nameserver = Nameserver::start(Zone { srv, hosts, ..Zone::default() }, Manner::Truncated).await;
    let found = Resolver::of(vec![nameserver.at]).resolve(SERVICE).await.unwrap();
    let ports: Vec<u16> = found.iter().map(SocketAddr::port).collect();
    assert_eq!(ports, (49..=64).rev().collect::<Vec<u16>>(), "16 of the first 64 records, by their priority");
    let told = resolve(SERVICE, Manner::Huge).await.0.unwrap_err();
    assert!(told.ends_with("its answer needs TCP: it has 60000 bytes, 16384 are read"), "{told}");
}

#[tokio::test]
async fn hosts_are_looked_up_by_the_system() {
    let nobody = Resolver::of(Vec::new());
    assert_eq!(nobody.resolve("127.0.0.1:7").await.unwrap(), ["127.0.0.1:7".parse().unwrap()]);
    for bad in ["127.0.0.1", "no port", "", "a:b"] {
        let why = nobody.resolve(bad).await.unwrap_err();
        assert_eq!(why.reason, Reason::NotSent);
        assert!(why.text.contains("is no address that can be looked up"), "{why}");
    }
}

#[test]
fn nameservers_are_those_of_resolv_conf() {
    let text = "# nameserver 192.0.2.8\nsearch example.org\nnameserver 192.0.2.1\n nameserver\t::1 # local\nnameserver\n\
                nameserver none\noptions ndots:1\nnameserver fe80::1%7\nnameserver fe80::1%no-such-if\nnameserver 192.0.2.4\n";
    let found: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["192.0.2.1:53", "[::1]:53", "[fe80::1%7]:53"]);
    assert!(!system().is_empty(), "this host is asked where none is named");
}

fn target(priority: u16, weight: u16, port: u16) -> Target {
    Target { priority, weight, port, host: "x".to_owned(), addresses: Vec::new() }
}

/// How often each port came first, of 6,000.
fn firsts(targets: &[Target]) -> BTreeMap<u16, u32> {
    let mut minter = Minter::new([3; 32]);
    let mut firsts = BTreeMap::new();
    for _ in 0..6_000 {
        let ordered = order(targets.to_vec(), |n| minter.below(n));
        assert!(ordered.is_sorted_by_key(|t| t.priority) && ordered.len() == targets.len());
        assert!(targets.iter().all(|t| ordered.contains(t)));
        *firsts.entry(ordered[0].port).or_default() += 1;
    }
    firsts
}

#[test]
fn among_equals_the_heavier_is_the_sooner_and_priority_goes_before_weight() {
    let seen = firsts(&[target(9, 65_535, 1), target(1, 30, 2), target(1, 10, 3), target(1, 20, 4)]);
    let near = |port: u16, share: u32| seen[&port].abs_diff(share) < 250;
    assert!(!seen.contains_key(&1) && near(2, 3_000) && near(3, 1_000) && near(4, 2_000), "{seen:?}");
    let seen = firsts(&[target(1, 0, 1), target(1, 0, 2), target(1, 0, 3)]);
    assert!(
        seen.values().all(|n| n.abs_diff(2_000) < 250),
        "those without weights are as good as each other: {seen:?}"
    );
    let seen = firsts(&[target(1, 99, 1), target(1, 0, 2)]);
    assert!((1..250).contains(&seen[&2]), "a weight of 0 leaves a very small chance: {seen:?}");
    assert_eq!(order(Vec::new(), |_| 0), []);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]
    /// Whatever stands after the head and the question, and a cut anywhere.
    #[test]
    fn no_answer_is_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), counts in proptest::prelude::any::<[u8; 6]>()) {
        let question = srv::question(SERVICE, 7).unwrap();
        let mut answer = question.as_slice().to_vec();
        answer[2] |= 0x80;
        answer[6..12].copy_from_slice(&counts);
        answer.extend(bytes);
        let answer = domain::base::Message::from_octets(answer).unwrap();
        if let Ok(targets) = srv::read(SERVICE, &answer) {
            proptest::prop_assert!(!targets.is_empty() && targets.len() <= 64);
        }
    }
}
