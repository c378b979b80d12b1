//! Sessions: who may open one, what a report does, how one ends. A peer has one session; a newer one takes its place.

use std::{net::SocketAddr, time::Duration};

use pams_shared::{
    frame::{Hello, ROSTER_MAX, Rejected, Rejection, Report, Terms, View, capability, close},
    id::{Order, PeerId},
    moment::Moment,
    record::{Reason, Record},
    status::{Liveness, Presence},
};

use super::{
    CLOCK_OFFSET_MAX_MS, Notice, Output, Pams, SessionId, What,
    directory::{Row, ms},
};

/// Fewest recent records that a peer keeps, however many peers there are.
const RECENT_MIN: usize = 4;
/// Each report counts the one before, so that the totals of a peer that does nothing else grow too. Siblings are told of that so
/// seldom; at each report it would be the most of what servers share.
const TOTALS_EVERY: Duration = Duration::from_secs(60);

/// How many buddies an agent takes from its home.
fn takes(hello: &Hello) -> usize {
    let max = hello.profile.as_ref().map_or(0, |profile| profile.roster_max as usize);
    if hello.capabilities & capability::ROSTERS == 0 { 0 } else { max.min(ROSTER_MAX) }
}

impl Pams {
    pub(super) fn opened(
        &mut self,
        now: Moment,
        session: SessionId,
        peer: PeerId,
        hello: Hello,
        (observed, same_host): (SocketAddr, bool),
    ) {
        if let Err((code, detail, notice)) = self.admit(now, session, peer, &hello) {
            self.notice(notice);
            self.outputs.push_back(Output::Reject { session, rejected: Rejected { code, detail } });
            return;
        }
        self.hears(now);
        let offset_ms = hello.wall_ms.cast_signed().wrapping_sub(now.wall_ms().cast_signed());
        if offset_ms.unsigned_abs() > CLOCK_OFFSET_MAX_MS {
            self.notice(Notice::ClockOff { peer, offset_ms });
        }
        let takes = takes(&hello);
        let can = |capability: u64| hello.capabilities & capability != 0;
        let (moves, checks) = (can(capability::SERVERS), can(capability::CHECKS));
        let known = |row: &Row| (row.profile.name.clone(), row.profile.addresses.clone(), row.observed);
        let before = self.directory.row(peer).map(known);
        if self.directory.row(peer).is_some() {
            self.attach_again(now, peer, hello, observed);
        } else {
            self.attach_first(now, peer, hello, observed);
        }
        let Some(row) = self.directory.row_mut(peer) else { return };
        row.session = Some(session);
        row.session_since = now;
        row.same_host = same_host;
        row.clock_offset_ms = offset_ms;
        (row.takes, row.moves, row.checks) = (takes, moves, checks);
        let renamed = before.is_some_and(|before| before != known(row));
        row.came = 0;
        let applied_batch = row.acked;
        self.cluster.here(peer);
        self.sessions.insert(session, peer);
        let terms = Terms { pace_ms: ms(self.config.pace), gone_after_ms: ms(self.config.gone_after), applied_batch };
        self.outputs.push_back(Output::Accept { session, terms });
        self.tell_servers(session);
        self.place_anew(now, peer, renamed);
    }

    /// Whether the session is welcome; makes room for a new peer if need be.
    fn admit(
        &mut self,
        now: Moment,
        session: SessionId,
        peer: PeerId,
        hello: &Hello,
    ) -> Result<(), (Rejection, String, Notice)> {
        let bad = |detail: &str| Err((Rejection::Protocol, detail.to_owned(), Notice::BadHello { peer }));
        if self.sessions.contains_key(&session) {
            return bad("a second hello came on this session; open another connection");
        }
        if hello.profile.is_none() {
            return bad("hello to a home must carry a profile");
        }
        if self.draining {
            let detail = "this server is about to stop; try another one, or again later".to_owned();
            return Err((Rejection::Busy, detail, Notice::Draining { peer }));
        }
        if self.cluster.is_settling(now) {
            let detail = "this server has just started and asks the others what it knew; try another one, or again in \
                          some seconds";
            return Err((Rejection::Busy, detail.to_owned(), Notice::Settling { peer }));
        }
        match self.directory.row(peer).map(Row::order).or_else(|| self.older_elsewhere(peer, hello)) {
            Some(known) if (hello.epoch, hello.attach) < (known.epoch, known.attach) => {
                let detail = format!(
                    "epoch {}, attach {} is older than epoch {}, attach {}, which is known of this peer; \
                     if an old copy of its data was restored, stop it and have the operator forget the peer here",
                    hello.epoch, hello.attach, known.epoch, known.attach
                );
                Err((Rejection::Epoch, detail, Notice::OlderOrder { peer, known }))
            }
            None if self.directory.len() >= self.config.peers_max && !self.evict(now) => {
                let detail =
                    format!("this server has {} peers and takes no more; try again later", self.directory.len());
                Err((Rejection::Busy, detail, Notice::PeersFull { peer }))
            }
            _ => Ok(()),
        }
    }

    /// The order under which another home has the peer, if this hello is not the newer.
    fn older_elsewhere(&self, peer: PeerId, hello: &Hello) -> Option<Order> {
        let entry = self.cluster.share.entry(peer).filter(|entry| !self.cluster.is_ours(entry))?;
        // Our own earlier start gave it under the same order.
        let ours = entry.owner == self.cluster.me.id;
        let (here, there) = ((hello.epoch, hello.attach), (entry.epoch, entry.attach));
        let older = here < there || (here == there && !ours);
        older.then_some(Order { epoch: entry.epoch, attach: entry.attach, version: 0 })
    }

    /// A peer that another home had, or an earlier start of ours: goes on where that one stopped.
    fn take_over(&mut self, now: Moment, peer: PeerId, hello: Hello, observed: SocketAddr) -> bool {
        let Some(foreign) = self.cluster.foreign(now, peer) else { return false };
        let row = foreign.row(observed, now);
        self.directory.insert(peer, row, now + self.config.overdue_after());
        self.speaks_again(peer);
        self.cluster.took_over();
        self.attach_again(now, peer, hello, observed);
        true
    }

    /// A peer without an entry; what is still known of a forgotten one goes on if its epoch does.
    fn attach_first(&mut self, now: Moment, peer: PeerId, hello: Hello, observed: SocketAddr) {
        if self.take_over(now, peer, hello.clone(), observed) {
            return;
        }
        let mut row = Row::new(hello.epoch, hello.attach, hello.profile.unwrap_or_default(), observed, now);
        if let Some(trace) = self.forgotten.take(peer)
            && trace.epoch == hello.epoch
        {
            (row.applied, row.acked) = (trace.applied, trace.applied);
            row.shed = trace.shed;
            row.books = trace.books;
        }
        self.directory.insert(peer, row, now + self.config.overdue_after());
        self.speaks_again(peer);
        self.event(now, peer, What::Came);
    }

    /// A peer that has an entry: reconnected, cut off and back, or started again.
    fn attach_again(&mut self, now: Moment, peer: PeerId, hello: Hello, observed: SocketAddr) {
        let look = now + self.config.overdue_after();
        let Some(row) = self.directory.row(peer) else { return };
        let (was, old, restarted) = (row.liveness, row.session, hello.epoch > row.epoch);
        if restarted {
            self.abandon(peer, Reason::Crash);
            self.witnesses.drop_watcher(peer);
            self.cluster.forget_waiting(peer);
        }
        self.directory.judge(peer, Liveness::Live, now, look);
        let Some(row) = self.directory.row_mut(peer) else { return };
        if restarted {
            row.books.begin_epoch();
            (row.applied, row.acked, row.shed, row.version) = (0, 0, 0, None);
        }
        (row.epoch, row.attach) = (hello.epoch, hello.attach);
        row.profile = hello.profile.unwrap_or_default();
        (row.observed, row.heard) = (observed, now);
        if let Some(old) = old {
            self.sessions.remove(&old);
            self.outputs.push_back(Output::Close { session: old, code: close::SUPERSEDED });
            self.subscriber_down(now, peer);
            self.notice(Notice::Superseded { peer });
        }
        match was {
            Liveness::Left => self.event(now, peer, What::Came),
            _ if restarted => self.event(now, peer, What::Restarted),
            Liveness::Gone => self.event(now, peer, What::Returned),
            _ if old.is_some() => self.event(now, peer, What::Superseded),
            _ => {}
        }
    }

    /// The peer of a session that something came on: a sign of life.
    pub(super) fn speaker(&mut self, now: Moment, session: SessionId) -> Option<PeerId> {
        let Some(&peer) = self.sessions.get(&session) else {
            self.notice(Notice::StaleSession { session });
            return None;
        };
        self.heard(now, peer);
        Some(peer)
    }

    pub(super) fn report(&mut self, now: Moment, session: SessionId, report: Report) {
        let Some(peer) = self.speaker(now, session) else { return };
        let Some(row) = self.directory.row_mut(peer) else { return };
        // An empty batch may have been acknowledged and told to nobody, as there was nothing in it.
        let resumes = row.came == 0 && row.inherited;
        row.came += 1;
        let lags = !report.totals.is_empty() && now.since(row.shared) >= TOTALS_EVERY;
        let before = row.applied;
        row.applied = before.max(report.batch);
        let applied = row.applied;
        self.acknowledge_soon(peer, applied);
        if report.batch <= before {
            return self.notice(Notice::Replayed { peer, batch: report.batch });
        }
        match report.batch - before - 1 {
            0 => {}
            _ if before == 0 || resumes => self.notice(Notice::Resumed { peer, batch: report.batch }),
            missing => self.notice(Notice::Gap { peer, missing }),
        }
        if !report.is_empty() || lags {
            self.cluster.touched.insert(peer);
        }
        self.apply(now, peer, report);
    }

    /// Applies a batch; whoever calls has seen to it that it is the first time.
    fn apply(&mut self, now: Moment, peer: PeerId, report: Report) {
        let Some(row) = self.directory.row_mut(peer) else { return };
        let untaken = row.books.take(&report.totals, &mut self.totals);
        let shed = report.shed.saturating_sub(row.shed);
        row.shed += shed;
        self.records_shed = self.records_shed.saturating_add(shed);
        let count = |n: u64, notice: fn(PeerId, u64) -> Notice| (n > 0).then(|| notice(peer, n));
        let stale = self.take_changes(peer, report.changes);
        let unseen = self.take_views(now, peer, &report.views);
        let notices = [
            count(untaken.kinds_full, |peer, count| Notice::KindsFull { peer, count }),
            count(untaken.implausible, |peer, count| Notice::Implausible { peer, count }),
            count(shed, |peer, count| Notice::RecordsShed { peer, count }),
            count(stale, |peer, count| Notice::StalePresence { peer, count }),
            count(unseen, |peer, count| Notice::ViewsFull { peer, count }),
        ];
        notices.into_iter().flatten().for_each(|notice| self.notice(notice));
        self.take_records(peer, report.records);
    }

    /// Returns how many were older than what is known.
    fn take_changes(&mut self, peer: PeerId, changes: Vec<Presence>) -> u64 {
        let mut stale = 0;
        for presence in changes {
            let known = self.directory.row(peer).and_then(|row| row.version);
            match Some(presence.version).cmp(&known) {
                std::cmp::Ordering::Greater => self.directory.say(peer, presence),
                // Told again, as after attaching: no news and no oddity.
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Less => stale += 1,
            }
        }
        stale
    }

    /// Returns how many found no room.
    fn take_views(&mut self, now: Moment, watcher: PeerId, views: &[View]) -> u64 {
        let (each, all) = (self.config.views_per_watcher, self.config.views_total);
        let untaken = views.iter().filter(|view| !self.witnesses.take(now, watcher, view, each, all)).count();
        untaken as u64
    }

    /// Counts records, keeps the last few, and hands them on.
    fn take_records(&mut self, peer: PeerId, records: Vec<Record>) {
        let fair = (self.config.recent_total / self.directory.len().max(1)).max(RECENT_MIN);
        let keep = self.config.recent_records.min(fair);
        let newest = records.len().saturating_sub(keep);
        for (i, record) in records.into_iter().enumerate() {
            self.records += 1;
            self.totals.intern(&record.kind);
            if i >= newest
                && let Some(row) = self.directory.row_mut(peer)
            {
                while row.recent.len() >= keep {
                    row.recent.pop_front();
                }
                row.recent.push_back(record.clone());
            }
            self.tell(Output::Record { peer, record });
        }
    }

    pub(super) fn fetch(&mut self, now: Moment, session: SessionId, peer: PeerId) {
        if self.speaker(now, session).is_some() {
            let own = self.directory.row(peer).map(|row| row.entry(peer, now));
            let entry =
                own.or_else(|| self.cluster.foreign(now, peer).map(|foreign| foreign.entry(peer))).map(Box::new);
            self.outputs.push_back(Output::Fetched { session, entry });
        }
    }

    /// The peer leaves: this epoch is over by its own word. Its connection is its own to close.
    pub(super) fn goodbye(&mut self, now: Moment, session: SessionId) {
        let Some(peer) = self.speaker(now, session) else { return };
        if self.directory.row(peer).is_some_and(|row| row.liveness != Liveness::Left) {
            self.abandon(peer, Reason::Shutdown);
            self.witnesses.drop_watcher(peer);
            self.subscriber_left(peer);
            self.depart(now, peer, Liveness::Left, What::Left);
        }
    }

    /// A lost connection says nothing of the peer: its time runs on.
    pub(super) fn closed(&mut self, now: Moment, session: SessionId) {
        if let Some(peer) = self.sessions.remove(&session)
            && let Some(row) = self.directory.row_mut(peer)
        {
            row.session = None;
            self.subscriber_down(now, peer);
        }
    }
}
