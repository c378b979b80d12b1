//! Those who follow a log here: their streams, and which of them have something to write.

use pams_shared::{
    frame::{Deltas, Follow, Held},
    id::ServerId,
    moment::Moment,
};

use super::{
    FOLLOWERS_MAX, FollowerId, Share, ShareError,
    cursor::{Cursor, Pace},
    take::begins,
};

impl Share {
    /// Begins to tell `who` what it asks for; [`Share::next`] gives the frames.
    ///
    /// # Errors
    /// The follower's fault, or there are too many: close the stream.
    pub fn follow(&mut self, now: Moment, id: FollowerId, who: ServerId, asked: Follow) -> Result<(), ShareError> {
        self.now = self.now.max(now);
        if self.followers.len() >= FOLLOWERS_MAX && !self.followers.contains_key(&id) {
            return Err(ShareError::Followers);
        }
        if asked.owner == self.me {
            let log = self.logs.get(&self.me).map_or((0, 0), |log| (log.generation, log.head));
            if asked.generation > log.0 || (asked.generation == log.0 && asked.from > log.1) {
                return Err(ShareError::Impostor { generation: asked.generation, seq: asked.from });
            }
            self.contact(false);
        }
        self.unfollow(id);
        self.followers.insert(id, Cursor::new(self.now, who, asked));
        self.ready.push_back(id);
        self.beat_at.get_or_insert(self.now + self.config.heartbeat);
        Ok(())
    }

    /// The next frame of this stream, once the one before is written. `None`: nothing is new; [`Share::ready`] says when.
    pub fn next(&mut self, id: FollowerId) -> Option<Deltas> {
        let recovered = self.followers.get(&id).is_some_and(|cursor| self.is_whole_for(cursor));
        let cursor = self.followers.get_mut(&id)?;
        let owner = cursor.owner();
        let frame = cursor.next(self.me, recovered, self.logs.get(&owner), &self.store);
        if cursor.pace == Pace::Queued {
            self.ready.retain(|ready| *ready != id);
        }
        cursor.beat = false;
        let Some(frame) = frame else {
            cursor.pace = Pace::Idle;
            return None;
        };
        (cursor.pace, cursor.last) = (Pace::Busy, self.now);
        if begins(&frame) {
            *(if frame.anew { &mut self.stats.told_anew } else { &mut self.stats.told_on }) += 1;
        }
        Some(frame)
    }

    /// Whether a follower may sweep what we don't name: not before it has told us what it holds of our earlier generations.
    fn is_whole_for(&self, cursor: &Cursor) -> bool {
        let answered = self.logs.get(&self.me).is_some_and(|log| log.has_told(cursor.who));
        let asked = self.generation > 1 && self.now.since(self.started) < self.config.tombstone_life;
        let late = self.now.since(cursor.since) >= self.config.recover;
        self.recovery.is_none() && (answered || !asked || late)
    }

    /// The next stream whose [`Share::next`] has something since it last returned `None`.
    pub fn ready(&mut self) -> Option<FollowerId> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(cursor) = self.followers.get_mut(&id).filter(|cursor| cursor.pace == Pace::Queued) {
                cursor.pace = Pace::Busy;
                return Some(id);
            }
        }
        None
    }

    /// The follower has acknowledged.
    pub fn held(&mut self, id: FollowerId, held: Held) {
        if let Some(cursor) = self.followers.get_mut(&id)
            && cursor.generation() == Some(held.generation)
        {
            cursor.held = cursor.held.max(held.upto.min(cursor.upto));
        }
    }

    pub fn unfollow(&mut self, id: FollowerId) {
        self.followers.remove(&id);
        // Else streams that come and go while nobody looks would pile up.
        self.ready.retain(|ready| *ready != id);
    }

    /// The largest number up to which one sibling that follows us now holds everything of ours; 0 if none does. It falls when
    /// that one ends its stream.
    pub fn covered(&self) -> u64 {
        let ours = self.followers.values().filter(|cursor| cursor.owner() == self.me);
        ours.map(|cursor| cursor.held).max().unwrap_or(0)
    }

    /// Something is new in this owner's log.
    pub(super) fn wake(&mut self, owner: ServerId) {
        for (id, cursor) in &mut self.followers {
            if cursor.owner() == owner && cursor.pace == Pace::Idle {
                cursor.pace = Pace::Queued;
                self.ready.push_back(*id);
            }
        }
    }
}
