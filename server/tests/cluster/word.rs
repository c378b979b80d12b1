//! What a server says to an agent whose home it has found down, and what the agent makes of it: it asks that home, and leaves it if no
//! answer comes.

use pams_server::core::cluster::{io::SiblingInput, lost::Told};
use pams_shared::{
    frame::{Frame, HomeLost},
    id::PeerId,
};

use crate::{
    setup::{self, peer},
    world::{SECOND, World},
};

/// Longer than an agent's: paths are bad here.
const PATIENCE: u64 = SECOND;

impl World {
    /// The call to the agent takes no time; but it gets through, or not, as two packets would.
    pub fn tell_lost(&mut self, s: usize, to: PeerId, what: HomeLost) {
        let (a, home) = (self.agent_of(to), setup::server(what.server).expect("a server"));
        assert!(home != s, "a server takes itself for lost");
        let ways = [(s, a), (a, s)].map(|path| self.net.fates(path, self.now).is_empty());
        let told = if !self.processes[a].up || ways.contains(&true) {
            self.tally.count("word_lost");
            Told::Unreachable
        } else if self.session_of(a).is_some_and(|(_, at)| at == home) && self.is_life(home, what.generation) {
            self.tally.count("word_asks");
            self.ask_home(a);
            Told::Asks
        } else {
            self.tally.count("word_late");
            Told::Elsewhere
        };
        self.tell_sibling(s, SiblingInput::Told { peer: to, told });
    }

    /// Which start of its home an agent is told of in Hello; one that is dead had that one when it died.
    fn is_life(&self, server: usize, generation: u64) -> bool {
        self.processes[server].life == generation
    }

    fn ask_home(&mut self, a: usize) {
        let Some((conn, _)) = self.session_of(a) else { return };
        let stream = self.open_stream(conn, 0);
        self.send_frame(conn, 0, stream, &Frame::Fetch(peer(a)));
        self.agents[a].doubted.get_or_insert(self.now);
    }

    /// The home does not answer, of which somebody said that it is lost.
    pub fn is_lost(&self, a: usize) -> bool {
        self.agents[a].doubted.is_some_and(|since| since + PATIENCE <= self.now)
    }
}
