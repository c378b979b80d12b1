//! Whether we hear anybody at all. When agents and other servers fall silent together, that tells of us rather than of them: we
//! are cut off, or deaf. So while nobody is heard nobody is judged by it, and once somebody is, the silence before counts for
//! nothing. A server that knows of no other has no second witness, and judges by what it has.

use pams_shared::moment::Moment;

use super::{Pams, cluster::io::SiblingInput};

impl Pams {
    /// Something authenticated came from an agent or a server.
    pub(super) fn hears(&mut self, now: Moment) {
        if self.is_deaf(now) {
            self.awake = self.awake.max(now);
        }
        self.ears = now;
    }

    /// The same, if that is what this is.
    pub(super) fn hears_sibling(&mut self, now: Moment, input: &SiblingInput) {
        let came = matches!(
            input,
            SiblingInput::Linked { .. }
                | SiblingInput::Gossip { .. }
                | SiblingInput::Deltas { .. }
                | SiblingInput::Followed { .. }
                | SiblingInput::Held { .. }
        );
        if came {
            self.hears(now);
        }
    }

    /// Nobody is heard, though there are other servers. No longer than `orphan_gone`: whoever is dead is to be gone one day, also
    /// where the last agent and the only other server died together.
    pub(super) fn is_deaf(&self, now: Moment) -> bool {
        let silence = now.since(self.ears);
        silence >= self.config.overdue_after() && silence < self.config.orphan_gone && self.cluster.knows_others()
    }
}
