//! What changes under a running agent: its configuration, its host's addresses, its connections after a sleep; and the home's
//! configuration.

use std::time::Duration;

use pams_agent::core::{Command, Input};
use pams_server::core;
use pams_shared::{frame::close, id::PeerId};

use crate::{
    net::ConnId,
    setup::{address, node, peer},
    world::World,
};

impl World {
    /// A line of the configuration changes, or some do: who is watched, of whom to be told, how often, how many it takes.
    pub fn reconfigure(&mut self, me: usize) {
        if self.agents[me].leaving {
            return;
        }
        self.tally.count("reconfigured");
        let named = |world: &Self, n: usize| world.agents[me].configures(n) || world.agents[me].subscribes.contains(&n);
        let others: Vec<usize> = (1..=self.setup.agents).filter(|n| *n != me).collect();
        let before: Vec<usize> = others.iter().copied().filter(|n| named(self, *n)).collect();
        for other in &others {
            match self.pick(4) {
                0 => self.agents[me].buddies.retain(|(n, _)| n != other),
                1 if !self.agents[me].configures(*other) => {
                    let known = self.odds(75);
                    self.agents[me].buddies.push((*other, known));
                }
                2 => {
                    self.agents[me].subscribes.retain(|n| n != other);
                    self.agents[me].facts.told.remove(other);
                }
                3 if !self.agents[me].subscribes.contains(other) => self.agents[me].subscribes.push(*other),
                _ => {}
            }
        }
        let usual = self.setup.watcher.interval;
        let interval = [usual, usual / 2, usual * 3 / 2][self.pick(3)];
        if self.odds(30) {
            self.agents[me].takes = [0, 1, 16][self.pick(3)];
        }
        let agent = &mut self.agents[me];
        if agent.takes == 0 {
            agent.facts.given.clear();
        }
        (agent.interval, agent.longest) = (interval, agent.longest.max(interval));
        for other in others {
            match (before.contains(&other), named(self, other)) {
                (false, true) => {
                    self.agents[me].facts.added.insert(other, self.now);
                    self.tally.count("added");
                }
                (true, false) => self.tally.count("removed"),
                _ => {}
            }
        }
        let config = self.config(me);
        self.agent_handle(me, Input::Command(Command::Reconfigure(Box::new(config))));
    }

    pub fn reconfigure_home(&mut self) {
        self.tally.count("home_reconfigured");
        self.setup.home.gone_watched = Duration::from_secs([5, 20, 600][self.pick(3)]);
        let config = self.setup.home.clone();
        self.home_handle(core::Input::Reconfigured(Box::new(config)));
    }

    /// Its host has another address beside its first one: the one before leads nowhere, and the connections that others made
    /// with it are cut.
    pub fn move_host(&mut self, me: usize) {
        if self.agents[me].leaving {
            return;
        }
        self.tally.count("moved");
        let place = 1 + self.chance.below(4) as u8;
        self.agents[me].place = place;
        let cut = self.odds(50);
        let called = self.agents[me].links.live.values().map(|live| live.conn).filter(|c| self.side(*c, me) == 1);
        for conn in called.filter(|_| cut).collect::<Vec<ConnId>>() {
            self.close(conn, 1, close::DONE);
        }
        // Whom it did not hear meanwhile may have called in vain.
        self.processes[me].sleep.woke = self.now;
        let addresses = vec![address(me, place).parse().expect("an address")];
        self.agent_handle(me, Input::Moved { addresses });
    }

    pub fn hang_up(&mut self, me: usize, whom: PeerId) {
        let Some(conn) = node(whom).and_then(|n| self.agents[me].links.live.get(&n)).map(|live| live.conn) else {
            return;
        };
        debug_assert_eq!(peer(self.other(conn, me)), whom);
        self.tally.count("hung_up");
        self.close(conn, self.side(conn, me), close::DONE);
    }
}
