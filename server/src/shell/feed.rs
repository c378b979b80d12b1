//! For programs that measure the server (feature `feed`, which the product does not carry): inputs into the loop as if agents
//! had sent them, more than agents could send from the same machine, and a look at what other servers tell as it is applied.

use tokio::sync::{mpsc, oneshot};

use super::{agents::Event, handle::Ended};
use crate::core::{Input, Pams, cluster::io::SiblingInput};

/// Into the loop, in turn with what connections bring.
#[derive(Clone, Debug)]
pub struct Feed(mpsc::Sender<Event>);

impl Feed {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self(events)
    }

    /// Has the loop take these, each in a turn of the engine of its own, as if they had come on connections; what is answered
    /// to their sessions goes nowhere. Waits for room in the loop's queue, outside a runtime, and not for the loop. What is
    /// given back ends when they are taken.
    ///
    /// # Errors
    /// The server has ended.
    pub fn put(&self, inputs: Vec<Input>) -> Result<oneshot::Receiver<()>, Ended> {
        let (answer, taken) = oneshot::channel();
        self.0.blocking_send(Event::Fed { inputs, answer }).map_err(|_| Ended)?;
        Ok(taken)
    }
}

/// Watches the loop take what other servers tell; both calls are made by the loop, and it waits for them.
pub trait Tap: Send + std::fmt::Debug {
    /// Before the engine takes it.
    fn comes(&mut self, input: &SiblingInput);
    /// It is applied.
    fn applied(&mut self, pams: &Pams);
}

/// Shows it what comes; whether it came from another server.
pub(super) fn comes(tap: &mut dyn Tap, input: &Input) -> bool {
    let Input::Sibling(input) = input else { return false };
    tap.comes(input);
    true
}
