//! What changed in the shared view: our own rows on their way to the siblings, theirs on their way to subscribers and rosters,
//! and peers that have moved.

use pams_shared::{
    frame::{News, ReportAck, close},
    id::PeerId,
    moment::Moment,
};

use super::{
    super::{Output, Pams, What, directory::ms},
    io::SiblingOutput,
};

impl Pams {
    /// Takes what the siblings told: whoever has moved is let go, and whoever subscribed is told.
    pub(in super::super) fn take_news(&mut self, now: Moment) {
        while let Some(peer) = self.cluster.share.changed() {
            let Some(entry) = self.cluster.share.entry(peer) else {
                self.foreign_changed(now, peer);
                continue;
            };
            if self.cluster.is_ours(&entry) {
                continue;
            }
            let (banned, forgotten) = (entry.banned, entry.lot.is_none());
            if self.cluster.is_leftover(&entry) {
                self.cluster.leftovers.insert(peer);
            }
            if self.directory.row(peer).is_some() {
                if forgotten {
                    self.remove(now, peer, if banned { close::REJECTED } else { close::DONE });
                } else {
                    self.let_go(now, peer);
                }
            }
            if banned && self.cluster.banned.insert(peer) {
                self.cluster.out.push(SiblingOutput::Banned { peer });
            }
            if !banned && self.cluster.banned.remove(&peer) {
                self.cluster.out.push(SiblingOutput::Unbanned { peer });
            }
            self.foreign_changed(now, peer);
        }
        self.take_back(now);
    }

    /// Another home has the peer, by its own will: what we have of it is of the past. Its counts stay in the totals, and the
    /// rest of its transactions is the other's to book.
    fn let_go(&mut self, now: Moment, peer: PeerId) {
        self.event(now, peer, What::Moved);
        self.witnesses.drop_watcher(peer);
        self.subscriber_left(peer);
        self.cluster.acks.drop(peer);
        self.cluster.touched.remove(&peer);
        self.cluster.counts.let_go += 1;
        let Some(row) = self.directory.remove(peer) else { return };
        if let Some(session) = row.session {
            self.sessions.remove(&session);
            self.outputs.push_back(Output::Close { session, code: close::SUPERSEDED });
        }
    }

    /// What is known of a peer that is not ours may be another now.
    fn foreign_changed(&mut self, now: Moment, peer: PeerId) {
        self.place(now, peer);
        if self.publisher.of(peer).next().is_none() {
            self.cluster.told.remove(&peer);
            return;
        }
        let news = self.present(now, peer);
        let said = |n: &News| (n.order, n.liveness);
        let before = match &news {
            Some(news) => self.cluster.told.insert(peer, news.clone()),
            None => self.cluster.told.remove(&peer),
        };
        if before.as_ref().map(said) == news.as_ref().map(said) {
            return;
        }
        match (before, news) {
            // Forgotten at its home: the last that is told of it.
            (Some(before), None) => self.last_word_of(now, before),
            _ => self.speaks_again(peer),
        }
        self.publisher.changed(now, peer);
    }

    /// Shares the rows that changed, and acknowledges the batches that did it as soon as a sibling holds them.
    pub(in super::super) fn share_rows(&mut self, now: Moment) {
        while let Some(peer) = self.cluster.touched.pop_first() {
            let Some(row) = self.directory.row_mut(peer) else { continue };
            row.shared = now;
            // If another's is the newer, that has been told, or is about to be.
            if let Some(seq) = self.cluster.share.publish(now, peer, row.epoch, row.attach, row.packed()) {
                self.cluster.acks.moved(peer, seq);
            }
        }
        let waits = self.acks_wait();
        for (peer, batch) in std::mem::take(&mut self.cluster.reported) {
            let seq = self.cluster.share.entry(peer).map_or(0, |entry| entry.seq);
            self.cluster.acks.wait(now, peer, batch, seq);
        }
        let covered = if waits { self.cluster.share.covered() } else { u64::MAX };
        while let Some(released) = self.cluster.acks.release(now, covered) {
            if waits {
                self.cluster.counts.acked_held += 1;
                self.tell(Output::Held { took: released.waited });
            } else {
                self.cluster.counts.acked_alone += 1;
            }
            self.acknowledge(released.peer, released.batch);
        }
        while let Some(peer) = self.cluster.acks.nudge(now) {
            self.acknowledge(peer, 0);
        }
    }

    /// Whether there is a sibling whose word is waited for.
    fn acks_wait(&self) -> bool {
        self.config.ack_held && self.cluster.held
    }

    /// A batch is applied: acknowledged at once where nobody else is to hold it, else when somebody does.
    pub(in super::super) fn acknowledge_soon(&mut self, peer: PeerId, batch: u64) {
        if self.acks_wait() || self.cluster.acks.is_waiting(peer) {
            self.cluster.reported.push((peer, batch));
        } else {
            self.cluster.counts.acked_alone += 1;
            self.acknowledge(peer, batch);
        }
    }

    /// All batches of the peer up to this one are kept, or those that were before.
    fn acknowledge(&mut self, peer: PeerId, batch: u64) {
        let Some(row) = self.directory.row_mut(peer) else { return };
        row.acked = row.acked.max(batch);
        let ack = ReportAck { batch: row.acked, pace_ms: ms(self.config.pace), came: row.came };
        if let Some(session) = row.session {
            self.outputs.push_back(Output::Ack { session, ack });
        }
    }

    /// The peer is forgotten: the siblings are to forget it too.
    pub(in super::super) fn bury(&mut self, now: Moment, peer: PeerId, banned: bool) {
        self.cluster.touched.remove(&peer);
        self.cluster.acks.drop(peer);
        // Whoever is forgotten already stays so by that.
        let Some(entry) = self.cluster.share.entry(peer).filter(|entry| entry.lot.is_some()) else { return };
        let (epoch, attach) = (entry.epoch, entry.attach);
        // Of one that is another's we must be the newer.
        let attach = if self.cluster.is_ours(&entry) { attach } else { attach.saturating_add(1) };
        self.cluster.share.bury(now, peer, epoch, attach, banned);
        if banned {
            self.cluster.banned.insert(peer);
        }
    }
}
