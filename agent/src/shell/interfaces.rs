//! Notices that the host's addresses changed: an interface went or came, DHCP gave another address. Looks every few seconds,
//! which costs less than it takes to read netlink's news right. What that means to connections is the loop's matter.

use std::{collections::BTreeSet, net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};
use pams_shared::lookup::Resolver;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::start::own_addresses;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(5);
/// After a change routes may follow, so that so many more looks also ask which way leads to the home.
const SETTLE_LOOKS: u32 = 3;

/// Gives the addresses that the host has now.
pub type Interfaces = Arc<dyn Fn() -> BTreeSet<IpAddr> + Send + Sync>;

/// The host's addresses changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Those it has no more.
    pub lost: BTreeSet<IpAddr>,
    /// Where others can call us now, as far as the routes tell.
    pub found: Vec<SocketAddr>,
}

/// Addresses of interfaces that are up, loopback and link-local ones apart: nobody else reaches us by those.
pub fn addresses() -> BTreeSet<IpAddr> {
    let Ok(list) = getifaddrs() else { return BTreeSet::new() };
    let up =
        list.filter(|i| i.flags.contains(InterfaceFlags::IFF_UP) && !i.flags.contains(InterfaceFlags::IFF_LOOPBACK));
    let address = |a: nix::sys::socket::SockaddrStorage| match (a.as_sockaddr_in(), a.as_sockaddr_in6()) {
        (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
        (_, Some(v6)) => Some(IpAddr::V6(v6.ip())),
        _ => None,
    };
    up.filter_map(|i| i.address.and_then(address)).filter(is_global).collect()
}

fn is_global(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_loopback(),
    }
}

/// Looks until nobody listens any more.
pub async fn watch(
    interfaces: Interfaces,
    resolver: Resolver,
    bound: SocketAddr,
    homes: Vec<String>,
    moved: mpsc::Sender<Moved>,
) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut known, mut settle) = (interfaces(), 0);
    loop {
        tokio::select! {
            () = moved.closed() => return,
            _ = look.tick() => {}
        }
        let now = interfaces();
        let lost: BTreeSet<IpAddr> = known.difference(&now).copied().collect();
        if now != known {
            settle = SETTLE_LOOKS;
        }
        known = now;
        if settle == 0 {
            continue;
        }
        settle -= 1;
        let found = tokio::select! {
            () = moved.closed() => return, // also while a name server is silent
            found = own_addresses(&resolver, bound, &homes) => found,
        };
        if moved.send(Moved { lost, found }).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once_and_looked_after_until_routes_have_settled() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let now = Arc::new(Mutex::new(BTreeSet::from([ip("192.0.2.1")])));
        let (of, (tell, mut told)) = (now.clone(), mpsc::channel(1));
        let bound = "127.0.0.1:7".parse().unwrap();
        let watching = watch(Arc::new(move || of.lock().unwrap().clone()), Resolver::default(), bound, vec![], tell);
        let change = async {
            tokio::time::sleep(LOOK * 3).await;
            assert!(told.try_recv().is_err(), "nothing changed");
            *now.lock().unwrap() = BTreeSet::from([ip("198.51.100.1")]);
            let first = told.recv().await.unwrap();
            assert_eq!(first, Moved { lost: BTreeSet::from([ip("192.0.2.1")]), found: vec![bound] });
            for _ in 1..SETTLE_LOOKS {
                assert!(told.recv().await.unwrap().lost.is_empty());
            }
            tokio::time::sleep(LOOK * 3).await;
            assert!(told.try_recv().is_err(), "settled");
            drop(told);
        };
        tokio::join!(watching, change);
    }

    #[test]
    fn this_host_can_be_asked() {
        assert!(addresses().iter().all(is_global));
    }
}
