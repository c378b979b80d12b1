//! Tries again for ever: after a connection that was lost others are called at once, and when nobody answers, all of them
//! again, with pauses that grow and that whoever changes something cuts short.

use std::time::Duration;

use pams_shared::{clock::Clock, frame, record::Why};
use quinn::Connection;

use super::{End, Uplink, UplinkEvent, UplinkRequest};
use crate::{
    core::choice::{Because, Call, Heard},
    shell::journey::Journey,
};

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

/// The search for a home.
struct Search {
    pause: Duration,
    journey: Journey,
    /// What was called last, and what came of it.
    last: Option<(String, Why)>,
}

impl Uplink {
    /// Runs until Goodbye or until the loop is gone.
    pub async fn run(mut self) {
        let mut search = Search { pause: RETRY_FIRST, journey: Journey::default(), last: None };
        let mut ready = None;
        if self.tell_servers().await.is_err() {
            return;
        }
        loop {
            let next = ready.take().or_else(|| self.choice.next(Clock.now()).map(|call| (call, None)));
            let Some((call, connection)) = next else {
                match self.wait(&mut search).await {
                    Some(()) => continue,
                    None => return,
                }
            };
            let end = self.session(&call, connection, &mut search.pause).await;
            let Some(why) = end.why().cloned() else { return };
            if self.events.send(UplinkEvent::Down { why: why.clone() }).await.is_err() {
                return;
            }
            ready = self.ended(&mut search, call, end, why);
        }
    }

    /// What an end means for whom to call next; a call that is answered already.
    fn ended(&mut self, search: &mut Search, call: Call, end: End, why: Why) -> Option<(Call, Option<Connection>)> {
        if std::mem::take(&mut self.met) || matches!(end, End::Again(_)) {
            search.journey = Journey::default();
        }
        let because = if matches!(end, End::Silent(_)) { Because::Silent } else { Because::Lost };
        let (heard, ready) = match end {
            End::Again(_) => {
                search.pause = RETRY_FIRST;
                (Heard::Anew, None)
            }
            End::Moved(to, _) => (Heard::Left, Some((to.0, Some(to.1)))),
            End::Superseded(_) => (Heard::Superseded, None),
            _ if self.choice.is_home() => (Heard::Down { because }, None),
            _ => (Heard::Failed { place: call.place }, None),
        };
        if matches!(heard, Heard::Down { .. } | Heard::Superseded | Heard::Failed { .. }) {
            search.journey.missed();
            search.last = call.names.into_iter().next().map(|name| (name, why));
        }
        self.choice.handle(Clock.now(), heard);
        ready
    }

    /// The pause before all are called again; `None`: there is nothing to wait for.
    async fn wait(&mut self, search: &mut Search) -> Option<()> {
        let (name, why) = search.last.clone()?;
        let jitter = self.minter.below(search.pause.as_millis() as u64 / 3 + 1);
        // Beside the wait, which it may take a part of.
        let next = Clock.now() + (search.pause - Duration::from_millis(jitter));
        let trying = tokio::select! {
            trying = search.journey.tried(&self.dialler.resolver, &name, &why, next) => trying,
            () = self.events.closed() => return None,
        };
        self.events.send(UplinkEvent::Trying(trying)).await.ok()?;
        match self.idle(next.since(Clock.now()), &why).await {
            Idle::End => return None,
            Idle::Hurry => search.pause = RETRY_FIRST,
            Idle::Over => search.pause = (search.pause * 2).min(RETRY_LAST),
        }
        self.choice.again();
        Some(())
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
                        self.choice.names(homes);
                        return Idle::Hurry;
                    }
                    Some(request) => self.refuse(request, why).await,
                },
            }
        }
    }
}
