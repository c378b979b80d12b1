//! Tries again for ever: after a connection that was lost the next home is called, with pauses that grow and that whoever
//! changes something cuts short.

use std::time::Duration;

use pams_shared::{clock::Clock, frame, record::Why};

use super::{End, Uplink, UplinkEvent, UplinkRequest};
use crate::shell::journey::Journey;

/// Pauses between tries double from the first to the last of these, each with up to a third less as jitter.
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(500);
pub(super) const RETRY_LAST: Duration = frame::HOME_RETRY_MAX;

/// How a wait for the next try ended.
enum Idle {
    Over,
    /// Something changed: the next try is now.
    Hurry,
    End,
}

impl Uplink {
    /// Runs until Goodbye or until the loop is gone.
    pub async fn run(mut self) {
        let (mut pause, mut turn, mut journey) = (RETRY_FIRST, 0, Journey::default());
        loop {
            let Some(address) = self.homes.get(turn % self.homes.len().max(1)).cloned() else { return };
            let (why, again) = match self.session(&address, &mut pause).await {
                End::Done => return,
                End::Again(why) => (why, true),
                End::Lost(why) => (why, false),
            };
            if self.events.send(UplinkEvent::Down { why: why.clone() }).await.is_err() {
                return;
            }
            if again {
                journey = Journey::default();
                // The same one, unless it is no longer to be tried.
                turn = self.homes.iter().position(|h| *h == address).unwrap_or(0);
                pause = RETRY_FIRST;
                continue;
            }
            let jitter = self.minter.below(pause.as_millis() as u64 / 3 + 1);
            let wait = pause - Duration::from_millis(jitter);
            if std::mem::take(&mut self.met) {
                journey = Journey::default();
            }
            // Beside the wait, which it may take a part of.
            let next = Clock.now() + wait;
            let told = tokio::select! {
                trying = journey.tried(&address, &why, next) => Some(trying),
                () = self.events.closed() => None,
            };
            let Some(trying) = told else { return };
            if self.events.send(UplinkEvent::Trying(trying)).await.is_err() {
                return;
            }
            match self.idle(next.since(Clock.now()), &why).await {
                Idle::End => return,
                Idle::Hurry => pause = RETRY_FIRST,
                Idle::Over => pause = (pause * 2).min(RETRY_LAST),
            }
            turn += 1;
        }
    }

    /// Waits for the next try; whoever asks meanwhile is told why there is no answer.
    async fn idle(&mut self, pause: Duration, why: &Why) -> Idle {
        let sleep = tokio::time::sleep(pause);
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return Idle::Over,
                request = self.requests.recv() => match request {
                    None | Some(UplinkRequest::Goodbye) => return Idle::End,
                    Some(UplinkRequest::Rejoin(_)) => return Idle::Hurry,
                    Some(UplinkRequest::Homes(homes)) => {
                        self.homes = homes;
                        return Idle::Hurry;
                    }
                    Some(request) => self.refuse(request, why).await,
                },
            }
        }
    }
}
