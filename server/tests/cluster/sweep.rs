//! What must hold at any time, whatever befalls: what a server shows of others' peers some home said; who is connected is shown
//! live by its home, and by all that hear it.

use pams_server::core::view::PeerView;
use pams_shared::status::Liveness;

use crate::{
    setup::{self, ns, peer},
    trace::{name, shown},
    world::{Event, MS, SECOND, World},
};

const SWEEP_EVERY: u64 = 500 * MS;
/// So long a connection must have worked, between an agent and its home and between that and whoever looks.
const STEADY: u64 = 9 * SECOND;

impl World {
    pub fn sweep(&mut self) {
        for s in self.server_places() {
            if self.processes[s].up && self.processes[s].stalled <= self.now {
                self.sweep_server(s);
            }
        }
        self.plan(self.now + SWEEP_EVERY, Event::Sweep);
    }

    /// What a server shows of all peers.
    pub fn views(&self, s: usize) -> Vec<PeerView> {
        let Some(core) = &self.servers[s].core else { return Vec::new() };
        let page = core.peers(self.moment(s), &pams_server::core::view::Filter::default(), None, 1_000);
        assert!(page.next.is_none() && page.peers.is_sorted_by_key(|view| view.id));
        page.peers
    }

    fn sweep_server(&mut self, s: usize) {
        let views = self.views(s);
        for view in &views {
            if view.server != setup::id(s) {
                self.sweep_foreign(s, view);
            }
        }
        for a in self.agent_places() {
            let Some(home) = self.works(a, STEADY) else { continue };
            if home != s && !self.is_linked(s, home, STEADY) {
                continue;
            }
            let view = views.iter().find(|view| view.id == peer(a));
            let view =
                view.unwrap_or_else(|| panic!("{} does not know {}, at home at {}", name(s), name(a), name(home)));
            let here = matches!(view.liveness, Liveness::Live | Liveness::Overdue);
            let right = view.server == setup::id(home) && view.order.epoch == self.processes[a].life;
            let hears = home == s || !self.is_stuck(s, home);
            if view.stale && !hears {
                self.tally.count("stuck");
            }
            assert!(
                here && right && (!view.stale || !hears),
                "{} of {}, at home at {}: {}",
                name(s),
                name(a),
                name(home),
                shown(view)
            );
        }
    }

    /// Somebody said it, or its home is not heard.
    fn sweep_foreign(&mut self, s: usize, view: &PeerView) {
        let order = view.order;
        let word = (view.server, view.id, order.epoch, order.attach, order.version);
        let said = self.said.get(&word);
        let orphan_gone = ns(self.setup.config.orphan_gone) / MS;
        let orphan = view.stale && view.age_ms >= orphan_gone;
        let is_said = said.is_some_and(|said| said.contains(&view.liveness));
        let is_orphan = said.is_some() && orphan && view.liveness == Liveness::Gone;
        assert!(is_said || is_orphan, "{} shows what no home said ({said:?}): {}", name(s), shown(view));
        // Nobody is shown live for ever by the word of a home that is not heard.
        let here = matches!(view.liveness, Liveness::Live | Liveness::Overdue);
        assert!(!(here && orphan), "{} shows one live of whom nobody has heard: {}", name(s), shown(view));
        if view.stale {
            self.tally.count("stale_view");
        }
        if is_orphan && !is_said {
            self.tally.count("orphan");
        }
    }
}
