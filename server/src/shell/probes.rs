//! Who waits for the answer to which probe.

use std::{collections::HashMap, time::Duration};

use pams_shared::{
    frame::{self, ProbeAck},
    id::{Correlator, PeerId},
};
use tokio::sync::oneshot;

use super::handle::Probed;
use crate::{
    core::{
        Input,
        cluster::io::LinkId,
        probe::{Caller, Found, ProbeId},
    },
    metrics::Metrics,
};

/// The kind of transaction that a probe is, for the log.
const KIND: &str = "pams.probe";

/// The loop's table. The core answers each probe once, so that nothing stays.
#[derive(Debug, Default)]
pub struct Probes {
    last: u64,
    waiting: HashMap<ProbeId, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    peer: PeerId,
    caller: Caller,
    answer: Answer,
}

/// Whoever asked may be gone by the time of the answer.
#[derive(Debug)]
enum Answer {
    People(oneshot::Sender<Probed>),
    Server(oneshot::Sender<ProbeAck>),
}

impl Probes {
    /// Somebody here asks.
    pub fn people(&mut self, peer: PeerId, within: Duration, caller: Caller, answer: oneshot::Sender<Probed>) -> Input {
        self.ask(peer, within, caller, Answer::People(answer))
    }

    /// Another server asks.
    pub fn server(&mut self, link: LinkId, what: frame::Probe, answer: oneshot::Sender<ProbeAck>) -> Input {
        let caller = Caller::Sibling { link, hops: what.hops, correlator: what.correlator };
        let within = Duration::from_millis(what.within_ms.into());
        self.ask(what.peer, within, caller, Answer::Server(answer))
    }

    fn ask(&mut self, peer: PeerId, within: Duration, caller: Caller, answer: Answer) -> Input {
        self.last += 1;
        let probe = ProbeId(self.last);
        self.waiting.insert(probe, Waiting { peer, caller, answer });
        Input::Probe { probe, peer, within, caller }
    }

    /// Hands on an answer, counts it, and leaves its trace in the log.
    pub fn answered(
        &mut self,
        metrics: &Metrics,
        probe: ProbeId,
        correlator: Correlator,
        took: Duration,
        answer: Probed,
    ) {
        let Some(Waiting { peer, caller, answer: asked }) = self.waiting.remove(&probe) else { return };
        let by = caller.label();
        match &answer {
            Ok(answer) => {
                metrics.probed(answer.verdict, by, took);
                let (status, verdict) = (answer.verdict.outcome().as_str(), answer.verdict.as_str());
                tracing::debug!(target_id = %peer, kind = KIND, status, verdict, by, ?took, %correlator, "transaction");
            }
            Err(refused) => {
                metrics.probe_refused(refused.why);
                let (status, reason) = ("failed", refused.why.as_str());
                tracing::debug!(target_id = %peer, kind = KIND, status, reason, by, %correlator, "transaction");
            }
        }
        match asked {
            Answer::People(asked) => {
                let _ = asked.send(answer);
            }
            Answer::Server(asked) => {
                let findings = answer.map(|answer| answer.findings.into_iter().map(Found::finding).collect());
                let _ = asked.send(ProbeAck(findings.map_err(|refused| refused.rejected())));
            }
        }
    }
}
