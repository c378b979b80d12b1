//! Servers found by a service's SRV records.

use pams_server::{
    core::{Pams, cluster::view::MemberState},
    shell::{Options, start},
};
use pams_shared::{
    frame::Role,
    identity::Token,
    lookup::{
        Resolver,
        zone::{Manner, Nameserver, Zone},
    },
    moment::Moment,
};

use crate::harness::*;

const SERVICE: &str = "_pams._udp.example.org";
const HOST: &str = "all.example.org";

/// Servers at these ports of this host, the first ones before the others.
fn zone(ports: &[u16]) -> Zone {
    let srv = ports.iter().zip(1..).map(|(port, priority)| (SERVICE, priority, 0, *port, HOST)).collect();
    Zone { srv, hosts: vec![(HOST, LOOPBACK.ip())], ..Zone::default() }
}

fn options(nameserver: &Nameserver) -> Options {
    Options { resolver: Resolver::of(vec![nameserver.at]), ..Options::default() }
}

/// Others that are alive.
fn others(pams: &Pams, now: Moment) -> usize {
    pams.cluster(now).members.iter().filter(|member| member.connected && member.state == MemberState::Alive).count()
}

#[tokio::test]
async fn a_token_may_name_a_service_and_servers_are_found_by_it() {
    let first = Home::start().await;
    let dead = std::net::UdpSocket::bind(LOOPBACK).unwrap().local_addr().unwrap().port();
    let nameserver = Nameserver::start(zone(&[dead, first.at().port()]), Manner::Well).await;
    let service = vec![SERVICE.parse().unwrap()];
    let token = Token { addresses: service.clone(), ..first.token_of(Role::Server, Some(1), 0) };
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir, LOOPBACK);
    config.advertise.clone_from(&service);
    let options = Options { join: Some(token), ..options(&nameserver) };
    let running = soon(start(config, options)).await.unwrap();
    let second = Home { dir, running };
    assert_eq!(second.running.ready.first_token.as_ref().unwrap().addresses, service, "its own tokens name it too");
    // It has no other way to the first one than what the token named.
    for home in [&first, &second] {
        home.until(|pams, now| others(pams, now) == 1).await;
    }
    let told = first.look(|pams, now| pams.cluster(now).members[1].member.addresses.clone()).await;
    assert_eq!(told, [second.at()], "others are told where it is, not where all are");
}

#[tokio::test]
async fn servers_that_do_not_know_each_other_meet_though_the_service_names_them_first() {
    let first = Home::start().await;
    let second = Home::joining(first.token_of(Role::Server, Some(1), 0)).await.unwrap();
    let nameserver = Nameserver::start(Zone::default(), Manner::Well).await;
    // The first one moves, and forgets the second, which knows only where it was.
    let Home { dir, running } = first;
    soon(running.stop()).await;
    let known = dir.path().join("home/servers.json");
    if known.exists() {
        std::fs::remove_file(known).unwrap();
    }
    let mut config = config(&dir, LOOPBACK);
    config.servers = vec![SERVICE.parse().unwrap()];
    // Others call it elsewhere than where DNS has it, so that it can't know by the address that this is itself.
    config.advertise = vec!["192.0.2.1:7420".parse().unwrap()];
    let running = soon(start(config, options(&nameserver))).await.unwrap();
    let first = Home { dir, running };
    soon(async {
        while nameserver.asked()[0] == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(first.look(others).await, 0, "the name is not there yet");
    nameserver.tell(zone(&[first.at().port(), second.at().port()]));
    first.until(|pams, now| others(pams, now) == 1).await;
}
