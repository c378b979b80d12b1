//! One peer that several name: the configuration, the home, and whoever wants its presence. It is watched until the last of
//! them is gone, and is at each time what those say who name it still.

use pams_shared::{
    frame::{Roster, Rostered},
    presence::Path,
};

use super::*;
use crate::core::Origin;

/// Who names B.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    Config,
    Home,
    /// `subscribe = true` of a peer that is, or was, in the configuration.
    WantedByConfig,
    /// The control socket.
    WantedByCommand,
}

use Source::{Config, Home, WantedByCommand, WantedByConfig};

const ALL: [Source; 4] = [Config, Home, WantedByConfig, WantedByCommand];

fn config(named: &[Source]) -> AgentConfig {
    let buddy = BuddyConfig { peer: B, name: Some("mine".into()), addresses: vec!["own:1".into()] };
    let profile = Profile { roster_max: 9, ..Profile::default() };
    let buddies = named.contains(&Config).then_some(buddy).into_iter().collect();
    let subscribe = named.contains(&WantedByConfig).then_some(B).into_iter().collect();
    AgentConfig { buddies, subscribe, profile, ..AgentConfig::default() }
}

fn given(is: bool) -> Input {
    let rostered = Rostered { peer: B, name: "theirs".into(), addresses: vec!["192.0.2.11:7421".parse().unwrap()] };
    Input::Home(HomeInput::Roster(Roster { peers: is.then_some(rostered).into_iter().collect() }))
}

impl Run {
    fn configured(&mut self, ms: f64, named: &[Source]) -> String {
        self.step(ms, Input::Command(Command::Reconfigure(Box::new(config(named)))))
    }

    /// From now on exactly these name B.
    fn named(&mut self, ms: f64, before: &[Source], now: &[Source]) {
        if before.contains(&Home) != now.contains(&Home) {
            self.step(ms, given(now.contains(&Home)));
        }
        match (before.contains(&WantedByCommand), now.contains(&WantedByCommand)) {
            (false, true) => drop(self.step(ms, Input::Command(Command::Subscribe { peer: B }))),
            // It ends the configuration's too, until that is read again.
            (true, false) => drop(self.step(ms, Input::Command(Command::Unsubscribe { peer: B }))),
            _ => {}
        }
        self.configured(ms, now);
    }

    /// Name and addresses of B, and by whose word it is watched; `None`: it is not.
    fn buddy(&self) -> Option<(Origin, Option<String>, Vec<String>)> {
        let view = self.agent.view(at(0.0));
        assert_eq!(view.buddies.len(), usize::from(self.agent.roster.is_buddy(B)));
        view.buddies.into_iter().next().map(|b| (b.origin, b.name, b.addresses))
    }
}

fn expected(named: &[Source]) -> Option<(Origin, Option<String>, Vec<String>)> {
    let word = |origin, name: &str, at: &str| Some((origin, Some(name.to_owned()), vec![at.to_owned()]));
    if named.contains(&Config) {
        word(Origin::Config, "mine", "own:1")
    } else if named.contains(&Home) {
        word(Origin::Roster, "theirs", "192.0.2.11:7421")
    } else {
        (!named.is_empty()).then_some((Origin::Subscription, None, vec![]))
    }
}

/// Of any who name a peer any others may be left: what holds then does not depend on how it came about.
#[test]
fn a_peer_is_watched_until_nobody_names_it_and_is_what_those_say_who_do() {
    let of = |bits: usize| ALL.into_iter().enumerate().filter(move |(n, _)| bits >> n & 1 == 1).map(|(_, s)| s);
    for (before, now) in (0..16).flat_map(|before| (0..16).map(move |now| (before, now))) {
        let (before, now): (Vec<_>, Vec<_>) = (of(before).collect(), of(now).collect());
        let mut run = Run::new(config(&[]));
        run.named(0.0, &[], &before);
        assert_eq!(run.buddy(), expected(&before), "{before:?}");
        run.named(1.0, &before, &now);
        assert_eq!(run.buddy(), expected(&now), "{before:?}, then {now:?}");
        let wanted = now.contains(&WantedByConfig) || now.contains(&WantedByCommand);
        assert_eq!(run.agent.is_subscribed(B), wanted, "{before:?}, then {now:?}");
        if now.is_empty() {
            // A call under way ends by itself.
            run.step(2.0, Input::DialFailed { peer: B, why: Why::new(Reason::NoAnswer, "nobody") });
            assert!(run.agent.roster.contact(B).is_none(), "{before:?}: nothing is left of it");
        }
    }
}

#[test]
fn each_way_to_lose_all_who_name_a_peer_ends_the_watching_with_the_last() {
    let four = (0..256).map(|n| [n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6].map(|i| ALL[i]));
    let orders: Vec<[Source; 4]> = four.filter(|o| ALL.iter().all(|s| o.contains(s))).collect();
    assert_eq!(orders.len(), 24);
    for order in orders {
        let mut run = Run::new(config(&[]));
        run.named(0.0, &[], &ALL);
        for lost in 1..=order.len() {
            run.named(lost as f64, &order[lost - 1..], &order[lost..]);
            assert_eq!(run.buddy(), expected(&order[lost..]), "{order:?} without the first {lost}");
        }
    }
}

#[test]
fn a_reload_without_subscribe_ends_the_subscription_and_keeps_the_buddy() {
    let mut run = Run::new(config(&[Config, WantedByConfig]));
    run.link_up(1.0);
    assert!(run.agent.is_subscribed(B));
    assert_eq!(run.configured(10.0, &[Config]), "unsubscribe peer");
    assert!(!run.agent.is_subscribed(B));
    assert_eq!(run.buddy(), expected(&[Config]));
    assert_eq!(run.configured(20.0, &[Config, WantedByConfig]), "ask peer", "and back");
}

#[test]
fn what_the_control_socket_asked_for_outlives_a_reload_whatever_the_configuration_wanted() {
    let subscribe = || Input::Command(Command::Subscribe { peer: B });
    for first in [vec![Config], vec![Config, WantedByConfig]] {
        let mut run = Run::new(config(&first));
        run.link_up(1.0);
        run.step(2.0, subscribe());
        assert_eq!(run.asks.iter().filter(|a| a.path == Path::Peer).count(), 1, "asked once, whoever wants it");
        assert_eq!(run.configured(10.0, &[Config]), "");
        let view = run.agent.view(at(10.0));
        assert_eq!((view.subscriptions.len(), view.subscriptions[0].configured), (1, false));
        assert_eq!(run.configured(20.0, &[]), "", "it is wanted yet");
        assert_eq!(run.buddy(), expected(&[WantedByCommand]));
        let out = run.step(30.0, Input::Command(Command::Unsubscribe { peer: B }));
        assert_eq!(out, "unsubscribe peer");
        assert_eq!(run.buddy(), None);
    }
}

#[test]
fn a_buddy_that_only_the_home_names_now_is_called_where_that_says_at_once() {
    let mut run = Run::new(config(&[Config]));
    run.step(0.0, given(true));
    let (t, out) = run.until("dial", 1_100.0);
    assert_eq!(out, "dial own:1");
    run.step(t + 1.0, Input::DialFailed { peer: B, why: Why::new(Reason::NoAnswer, "nobody") });
    let out = run.configured(t + 2.0, &[]);
    assert!(out.contains("dial 192.0.2.11:7421"), "{out}");
}

#[test]
fn what_the_configuration_leaves_open_is_as_the_home_says() {
    let bare = BuddyConfig { peer: B, name: None, addresses: vec![] };
    let mut run = Run::new(AgentConfig { buddies: vec![bare], ..config(&[]) });
    run.step(0.0, given(true));
    let (_, name, addresses) = expected(&[Home]).unwrap();
    assert_eq!(run.buddy(), Some((Origin::Config, name, addresses)));
    assert_eq!(run.until("dial", 1_100.0).1, "dial 192.0.2.11:7421");
    run.step(1_200.0, given(false));
    assert_eq!(run.buddy(), Some((Origin::Config, None, vec![])));
}

#[test]
fn where_one_is_that_nobody_names_any_more_is_of_no_use_and_it_is_not_called() {
    let mut run = Run::new(config(&[]));
    run.step(0.0, Input::Command(Command::Subscribe { peer: B }));
    run.until("resolve", 1_100.0);
    let out = run.step(1_200.0, Input::Command(Command::Unsubscribe { peer: B }));
    assert!(out.contains("presence.ping aborted cancelled"), "{out}");
    assert_eq!(run.step(1_300.0, Input::Resolved { peer: B, found: Ok(vec!["b:1".into()]) }), "");
    assert!(run.agent.roster.contact(B).is_none());
}
