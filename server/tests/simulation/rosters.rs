//! Rosters at the end of a run: whom the home wants watched is watched, by as many as it should be, and by nobody else.

use std::collections::BTreeSet;

use pams_agent::core::Origin;
use pams_server::core::{Pams, view::PeerDetail};
use pams_shared::id::PeerId;

use crate::{
    setup::{HOME, node, peer},
    trace::name,
    world::World,
};

impl World {
    /// Of all that run, when all should be well.
    pub fn settled_rosters(&mut self) {
        let up: Vec<_> = (1..=self.setup.agents).filter(|n| self.processes[*n].up).collect();
        for me in up {
            let (watched, by) = {
                let detail = self.detail(me);
                (nodes(&detail.watches), nodes(&detail.watched_by))
            };
            self.watches_as_told(me, &watched);
            self.is_watched(me, &by);
        }
    }

    /// Its roster is the home's, as far as it takes one, and what its configuration says stays.
    fn watches_as_told(&mut self, me: usize, wanted: &BTreeSet<usize>) {
        let agent = &self.agents[me];
        let view = agent.core.as_ref().map(|c| c.view(self.moment(me))).expect("it runs");
        let of = |origin| view.buddies.iter().filter(move |b| b.origin == origin).filter_map(|b| node(b.peer));
        let own: BTreeSet<_> = agent.buddies.iter().map(|(n, _)| *n).collect();
        assert_eq!(of(Origin::Config).collect::<BTreeSet<_>>(), own, "{}: explicit ones stay", name(me));
        let told: BTreeSet<_> = agent.facts.given.keys().copied().collect();
        assert!(told.is_subset(wanted), "{} is told {told:?}, of {wanted:?}", name(me));
        assert_eq!(told.len(), wanted.len().min(agent.takes as usize), "{} is told {told:?}, of {wanted:?}", name(me));
        let given: BTreeSet<_> = told.difference(&own).copied().collect();
        assert_eq!(of(Origin::Roster).collect::<BTreeSet<_>>(), given, "{} watches others than told", name(me));
        self.tally.count_n("given", given.len() as u64);
        self.tally.count_n("cut", (wanted.len() - told.len()) as u64);
    }

    /// As many watch it as should: just so many if its overlays have the same members.
    fn is_watched(&mut self, me: usize, by: &BTreeSet<usize>) {
        let k = self.setup.home.watchers;
        let able = |n: &usize| *n != me && self.processes[*n].up && self.agents[*n].takes > 0;
        let able: BTreeSet<_> = (1..=self.setup.agents).filter(able).collect();
        assert!(by.is_subset(&able), "{} is watched by {by:?}; able are {able:?}", name(me));
        if !self.setup.nested {
            assert_eq!(by.len(), k.min(able.len()), "{} is watched by {by:?} of {able:?}", name(me));
            return self.tally.count_n("exactly_k", u64::from(able.len() > k));
        }
        for overlay in self.detail(me).peer.profile.overlays {
            let of = |n: &&usize| self.detail(**n).peer.profile.overlays.contains(&overlay);
            let members: BTreeSet<_> = able.iter().filter(of).copied().collect();
            let watching = by.intersection(&members).count();
            assert!(watching >= k.min(members.len()), "{} in {overlay} is watched by {by:?}", name(me));
        }
    }

    fn detail(&self, who: usize) -> PeerDetail {
        let now = self.moment(HOME);
        let detail = self.home.core.as_ref().and_then(|home: &Pams| home.peer(now, peer(who)));
        detail.unwrap_or_else(|| panic!("{} is not known", name(who)))
    }
}

fn nodes(peers: &[PeerId]) -> BTreeSet<usize> {
    peers.iter().filter_map(|p| node(*p)).collect()
}
