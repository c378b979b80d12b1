//! What must hold at the end, when all has been well for a stated time ([`setup::WORK`] and [`setup::QUIET`]): all servers know each
//! other, show the same, and are right.

use std::collections::BTreeMap;

use pams_server::core::view::{MemberState, PeerView};
use pams_shared::{
    id::Order,
    record::{Kind, Ledger},
    status::Liveness,
};

use crate::{
    setup::{self, peer},
    trace::{self, name},
    world::World,
};

impl World {
    pub fn finish(&mut self) {
        if self.setup.calm {
            self.tally.count("calm");
        }
        self.end_members();
        self.end_views();
        for a in self.agent_places() {
            self.end_agent_home(a);
        }
        self.end_ledgers();
        self.end_told();
    }

    fn core(&self, s: usize) -> &pams_server::core::Pams {
        self.servers[s].core.as_ref().unwrap_or_else(|| panic!("{} does not run", name(s)))
    }

    /// All know all, are connected, and hold the same of each owner.
    fn end_members(&self) {
        let mut origins = BTreeMap::new();
        for s in self.server_places() {
            let (core, now) = (self.core(s), self.moment(s));
            let view = core.cluster(now);
            assert_eq!(view.members.len(), self.setup.servers, "{} knows {:?}", name(s), view.members);
            assert_eq!(view.waiting, 0, "acknowledgements of {} are stuck", name(s));
            for member in &view.members {
                let other = setup::server(member.member.id).expect("a server");
                let state = if other == s { MemberState::Me } else { MemberState::Alive };
                let well = member.state == state && member.connected && !member.stale;
                assert!(well, "{} of {}: {member:?}", name(s), name(other));
                assert_eq!(member.member.generation, self.processes[other].life, "{} of {}", name(s), name(other));
            }
            for origin in core.origins() {
                let other = setup::server(origin.owner).expect("a server");
                let known = (origin.generation, origin.upto, origin.entries, origin.digest);
                let (by, first) = *origins.entry(other).or_insert((s, known));
                assert_eq!(known, first, "what {} shares, as {} and {} have it", name(other), name(s), name(by));
                assert!(origin.caught_up, "{} follows {}: {origin:?}", name(s), name(other));
            }
        }
    }

    /// All show the same, but for how old it is.
    fn end_views(&self) {
        let shown = |s: usize| -> Vec<serde_json::Value> {
            let show = |view: &PeerView| {
                assert!(!view.stale, "{}: {}", name(s), trace::shown(view));
                let mut value = serde_json::to_value(view).expect("plain data");
                value.as_object_mut().expect("an object").remove("age_ms");
                value
            };
            self.views(s).iter().map(show).collect()
        };
        let first = shown(0);
        for s in self.server_places().skip(1) {
            for (one, other) in first.iter().zip(shown(s)) {
                assert_eq!(*one, other, "a peer, as {} and {} show it", name(0), name(s));
            }
            assert_eq!(first.len(), shown(s).len(), "peers, as {} and {} show them", name(0), name(s));
        }
    }

    /// It has one home, which is where it is; and who is not here is not shown.
    fn end_agent_home(&mut self, a: usize) {
        let homes: Vec<usize> = self.server_places().filter(|s| self.is_home(*s, a)).collect();
        let view = self.views(0).into_iter().find(|view| view.id == peer(a));
        if self.agents[a].banned {
            if view.is_some() || !homes.is_empty() {
                self.tally.count("lives_on");
            }
            return;
        }
        let Some((_, home)) = self.session_of(a) else {
            assert!(!self.processes[a].up, "{} has no home", name(a));
            let gone = view.as_ref().is_none_or(|view| matches!(view.liveness, Liveness::Gone | Liveness::Left));
            assert!(
                gone && homes.len() <= 1,
                "{} is no more, and homes are {homes:?}: {:?}",
                name(a),
                view.as_ref().map(trace::shown)
            );
            return;
        };
        assert_eq!(homes, [home], "homes of {}", name(a));
        let view = view.unwrap_or_else(|| panic!("nobody shows {}", name(a)));
        let agent = &self.agents[a];
        let order = (view.order.epoch, view.order.attach, view.order.version);
        assert_eq!(order, (self.processes[a].life, agent.attach, agent.presence.version), "{}", name(a));
        assert_eq!((view.server, view.liveness), (setup::id(home), Liveness::Live), "{}", name(a));
        assert_eq!(view.presence.as_ref(), Some(&agent.presence), "{}", name(a));
        assert!(agent.batches.is_settled() && agent.batches.unacked() <= 1, "{}: batches are stuck", name(a));
    }

    /// What all agents did is known once, whoever is their home.
    fn end_ledgers(&mut self) {
        let sums = |s: usize| self.core(s).cluster_ledger(self.moment(s));
        let first = sums(0);
        for s in self.server_places().skip(1) {
            assert_eq!(first, sums(s), "all transactions, by {} and {}", name(0), name(s));
        }
        let mut shown: BTreeMap<Kind, Ledger> = BTreeMap::new();
        for a in self.agent_places() {
            let detail = self.core(0).peer(self.moment(0), peer(a));
            let ledgers = detail.map(|detail| detail.ledger);
            for (kind, ledger) in ledgers.iter().flatten() {
                shown.entry(kind.clone()).or_default().add(ledger);
            }
            if self.agents[a].banned {
                continue;
            }
            let ledgers = ledgers.unwrap_or_default();
            for (kind, bounds) in self.expected(a) {
                let ledger = ledgers.get(&kind).copied().unwrap_or_default();
                assert!(bounds.admit(&ledger), "{} {kind} {ledger:?} is not within {bounds:?}", name(a));
            }
        }
        assert_eq!(shown, first, "all transactions are those of each peer");
    }

    /// Whoever subscribed knows what is.
    fn end_told(&self) {
        for a in self.agent_places() {
            let Some((_, home)) = self.session_of(a).filter(|_| !self.agents[a].banned) else { continue };
            let views = self.views(home);
            for about in &self.agents[a].wants {
                let view = views.iter().find(|view| view.id == *about);
                let told = self.agents[a].told.get(about).cloned().flatten();
                let (Some(view), Some(told)) = (view, &told) else {
                    let forgotten = self.agents[self.agent_of(*about)].banned;
                    assert!(view.is_none() || forgotten, "{} is not told of {:?}", name(a), view.map(trace::shown));
                    continue;
                };
                // That it came anew, and is as it was, need not be told.
                let order = |order: Order| (order.epoch, order.version);
                let same = order(told.order) == order(view.order) && told.liveness == Some(view.liveness);
                assert!(
                    same,
                    "{} at {} is told {:?} of {}",
                    name(a),
                    name(home),
                    (told.order, told.liveness),
                    trace::shown(view)
                );
            }
        }
    }
}
