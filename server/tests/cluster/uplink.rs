//! Between an agent and its home: which is tried next, Hello, reports and what the home tells.

use pams_shared::{
    frame::{Frame, Hello, HelloAck, News, NotifyAck, Profile, Rejection, Report, capability, close},
    id::PeerId,
};

use crate::{
    agent::{Lost, Timer},
    conn::ConnId,
    setup::{self, node, peer},
    trace,
    world::{MS, SECOND, World},
};

/// A home that owes a word for so long is given up.
const SILENCE_MAX: u64 = 2 * SECOND;

impl World {
    pub fn dial_home(&mut self, a: usize) {
        let agent = &self.agents[a];
        if agent.conn.is_some() || agent.servers.is_empty() {
            return;
        }
        let server = agent.servers[agent.turn % agent.servers.len()];
        let conn = self.dial(a, server, None);
        let agent = &mut self.agents[a];
        (agent.conn, agent.asked, agent.written) = (Some(conn), Some(self.now), 0);
    }

    /// A server answers: another one is another attach, as soon as it may hear of it.
    pub fn reached(&mut self, a: usize, conn: ConnId) {
        let server = self.other(conn, a);
        let agent = &mut self.agents[a];
        if agent.home != Some(server) {
            if agent.home.is_some() {
                self.tally.count("rehomed");
            }
            agent.home = Some(server);
            agent.attach += 1;
        }
        let (attach, epoch) = (agent.attach, self.processes[a].life);
        let capabilities =
            capability::SERVERS | capability::ROSTERS | capability::SUBSCRIPTIONS | capability::HOME_LOST;
        let profile = Profile {
            name: trace::name(a).to_string(),
            addresses: vec![setup::address(a)],
            overlays: vec!["sim".to_owned()],
            capabilities,
            roster_max: 4,
            ..Profile::default()
        };
        let wall_ms = self.moment(a).wall_ms();
        let software = "sim/1".to_owned();
        let hello = Hello { software, epoch, capabilities, wall_ms, attach, profile: Some(profile), member: None };
        self.send_frame(conn, 0, 0, &Frame::Hello(hello));
    }

    /// What the home says.
    pub fn homes_frame(&mut self, a: usize, conn: ConnId, stream: u64, frame: Frame) {
        if self.agents[a].conn != Some(conn) {
            return;
        }
        match frame {
            Frame::HelloAck(ack) => {
                self.agents[a].asked = None;
                self.greeted(a, conn, ack);
            }
            Frame::ReportAck(ack) => {
                // Whatever else it says shows nothing of the kind: it may be deaf.
                let agent = &mut self.agents[a];
                assert!(ack.came <= agent.written, "{} said less than came", trace::name(a));
                if ack.came == agent.written {
                    agent.asked = None;
                }
                self.agents[a].batches.acked(ack.batch);
                self.flush(a);
            }
            Frame::FetchAck(_) => self.agents[a].doubted = None,
            Frame::Servers(servers) => {
                self.tally.count("servers");
                let known = servers.iter().map(|s| setup::server(s.member.id).expect("a server"));
                self.agents[a].servers = known.collect();
            }
            Frame::Move(_) => {
                self.tally.count("move");
                self.next_home(a, conn);
            }
            Frame::Roster(_) => self.tally.count("roster"),
            Frame::SubscribeAck(ack) => {
                let about = self.agents[a].asks.get(&stream).copied().expect("an answer to a question");
                // Streams overtake each other: a notify that came before was sent after it.
                if let Ok(news) = ack.0
                    && !self.agents[a].told.contains_key(&about)
                {
                    self.told(a, about, news);
                }
            }
            Frame::Notify(notify) => {
                let ack = NotifyAck { peer: notify.news.peer, number: notify.number, hold_ns: None, correlator: None };
                self.told(a, notify.news.peer, Some(notify.news));
                self.send_frame(conn, 0, 0, &Frame::NotifyAck(ack));
            }
            frame => panic!("no home says that: {frame:?}"),
        }
    }

    fn greeted(&mut self, a: usize, conn: ConnId, ack: HelloAck) {
        let terms = match ack.verdict {
            Ok(()) => ack.terms.expect("a home says its terms"),
            Err(rejected) => {
                assert!(rejected.code == Rejection::Busy, "{} is turned away: {}", trace::name(a), rejected.detail);
                self.tally.count("busy");
                return self.next_home(a, conn);
            }
        };
        self.line(a, || format!("! is at home, applied {}", terms.applied_batch));
        self.unpark(conn, 0);
        let now = self.now;
        let agent = &mut self.agents[a];
        agent.up = Some(now);
        agent.told.clear();
        agent.batches.change(agent.presence.clone());
        agent.batches.attach(now, terms.applied_batch, terms.pace_ms * MS);
        for about in agent.wants.clone() {
            let stream = self.open_stream(conn, 0);
            self.agents[a].asks.insert(stream, about);
            self.send_frame(conn, 0, stream, &Frame::Subscribe(about));
        }
        self.flush(a);
    }

    /// Leaves this home for the next.
    fn next_home(&mut self, a: usize, conn: ConnId) {
        self.agents[a].turn += 1;
        self.close(conn, 0, close::DONE);
    }

    pub fn doubt(&mut self, a: usize) {
        let agent = &self.agents[a];
        if let (Some(conn), Some(since)) = (agent.conn, agent.asked)
            && since + SILENCE_MAX <= self.now
        {
            self.tally.count("gave_up");
            return self.next_home(a, conn);
        }
        if let Some(conn) = agent.conn.filter(|_| self.is_lost(a)) {
            self.tally.count("word_moves");
            self.next_home(a, conn);
        }
    }

    /// The connection is over; another one follows after a pause.
    pub fn home_lost(&mut self, a: usize, conn: ConnId, how: Lost) {
        if self.agents[a].conn != Some(conn) {
            return;
        }
        self.line(a, || format!("! is without a home: {how:?}"));
        let stays = how == Lost::Silence && self.odds(50);
        let agent = &mut self.agents[a];
        (agent.conn, agent.up, agent.asked, agent.doubted) = (None, None, None, None);
        agent.batches.detach();
        agent.asks.clear();
        if how != Lost::Ours && !stays {
            agent.turn += 1;
        }
        let pause = 200 * MS + self.chance.below(600 * MS);
        self.timer(a, pause, Timer::Dial);
    }

    /// Gives the home what is to be given now.
    pub fn flush(&mut self, a: usize) {
        let now = self.now;
        let Some(conn) = self.agents[a].conn.filter(|_| self.agents[a].up.is_some()) else { return };
        let due = self.agents[a].batches.due;
        loop {
            let agent = &mut self.agents[a];
            let Some(batch) = agent.batches.next(now, &agent.totals) else { break };
            let totals: Vec<_> = agent.totals.iter().map(|(kind, ledger)| (kind.clone(), *ledger)).collect();
            agent.asked.get_or_insert(now);
            agent.written += 1;
            let (changes, records) = (batch.changes, batch.records);
            let report = Report { batch: batch.number, totals, changes, records, ..Report::default() };
            self.trace.line(now, a, || format!("> {}", trace::brief(&report)));
            self.send_frame(conn, 0, 0, &Frame::Report(report));
        }
        if let Some(next) = self.agents[a].batches.due
            && due != Some(next)
        {
            self.timer(a, next.saturating_sub(now), Timer::Pace);
        }
    }

    /// The home tells of a peer. It never goes back, but to a new home that has not heard the peer say anything yet.
    fn told(&mut self, a: usize, about: PeerId, news: Option<News>) {
        self.tally.count("told");
        let home = self.agents[a].home;
        if node(about).is_some_and(|n| self.agents[n].home != home) {
            self.tally.count("told_across");
        }
        self.trace.line(self.now, a, || {
            let said = news.as_ref().map(|n| (n.order, n.liveness));
            format!("! is told of {}: {said:?}", node(about).map_or('?', trace::name))
        });
        let banned = node(about).is_some_and(|n| self.agents[n].banned);
        let before = self.agents[a].told.insert(about, news.clone()).flatten();
        if let (Some(before), Some(news)) = (before, news) {
            assert!(
                before.order <= news.order || banned || news.presence.is_none(),
                "{} is told of {about} backwards: {before:?} {news:?}",
                trace::name(a)
            );
        }
    }

    /// An agent's session, as it sees it, and its home.
    pub fn session_of(&self, a: usize) -> Option<(ConnId, usize)> {
        let agent = &self.agents[a];
        let conn = agent.conn.filter(|_| self.processes[a].up && agent.up.is_some())?;
        Some((conn, self.other(conn, a)))
    }

    /// For so long an agent and its home have both run and had a connection on which nothing was sent twice.
    pub fn works(&self, a: usize, for_ns: u64) -> Option<usize> {
        let since = self.now.saturating_sub(for_ns);
        let (conn, home) = self.session_of(a)?;
        let at_home = self.servers[home].hellos.get(&conn) == Some(&self.processes[a].life);
        let calm = self.net.conns[conn].troubled < since && self.agents[a].up.is_some_and(|up| up < since);
        let runs = self.servers[home].shaken < since && !self.is_leaving(a);
        let open = self.is_open(conn, 0) && self.is_open(conn, 1);
        let steady = self.net.is_steady((a, home), since);
        (at_home && calm && runs && open && steady && !self.agents[a].banned).then_some(home)
    }

    /// The agent of a peer.
    pub fn agent_of(&self, of: PeerId) -> usize {
        let place = node(of).expect("a peer of ours");
        assert_eq!(peer(place), of);
        place
    }
}
