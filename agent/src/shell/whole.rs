//! What befalls the loop as a whole: another configuration, a gap in which it did not run, other addresses, and what the
//! service manager is told of it all.

use pams_shared::{clock::Clock, moment::Moment, pulse::Gap, status::Liveness};

use super::{Shell, interfaces::Moved, start::homes, uplink::UplinkRequest};
use crate::{
    config::Config,
    core::{Command, Input, View, choice::Servers},
};

/// Who called us at an address that is lost is called back, as far as these; the others find out by the silence.
const CALLED_BACK_MAX: usize = 256;

impl Shell {
    /// Goes on with another configuration.
    pub(super) fn reconfigure(&mut self, config: Config) {
        self.metrics.set_per_peer_max(config.metrics.per_peer_max);
        match homes(&config, &self.place.token_homes, &Servers::default()) {
            Ok(homes) if homes != self.place.homes => {
                self.place.homes.clone_from(&homes);
                self.ask_home(UplinkRequest::Homes(homes));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the homes of before are kept"),
        }
        let core = config.core(self.core.presence().clone(), &self.place.found);
        self.place.advertised = !config.advertise.is_empty();
        self.handle(Input::Command(Command::Reconfigure(Box::new(core))));
    }

    /// Finds out whether we have run since the last look, and gives the time now. To be asked before anything else, so that
    /// what came meanwhile is not judged by the clock alone.
    pub(super) fn look(&mut self) -> Moment {
        let now = Clock.now();
        if let Some(Gap { stopped, suspended }) = self.pulse.look(now, || Clock.suspended()) {
            self.core.handle(now, Input::Slept { stopped, suspended });
            self.drain();
        }
        now
    }

    pub(super) fn moved(&mut self, Moved { lost, found }: Moved) {
        let cut = self.links.hang_up_at(&lost);
        if cut.is_empty() && found == self.place.found {
            return; // some bridge of a container, or a route that was told already
        }
        // They would not know before their connection is idle for too long.
        for (peer, at) in cut.into_iter().take(CALLED_BACK_MAX) {
            self.links.dial(peer, vec![at.to_string()]);
        }
        self.place.found.clone_from(&found);
        let addresses = if self.place.advertised { self.core.profile().addresses.clone() } else { found };
        self.handle(Input::Moved { addresses });
    }

    /// The line that `systemctl status` shows.
    pub(super) fn tell_supervisor(&self) {
        if self.supervisor.is_there() {
            self.supervisor.status(&line(&self.core.view(Clock.now())));
        }
    }
}

fn line(view: &View) -> String {
    let live = view.buddies.iter().filter(|b| b.liveness == Some(Liveness::Live)).count();
    let buddies = format!("{live} of {} buddies live", view.buddies.len());
    match (&view.home.server, &view.home.why) {
        (Some(server), _) if view.home.connected => format!("{}; home {server}; {buddies}", view.name),
        (_, Some(why)) => format!("{}; no home: {}; {buddies}", view.name, why.text),
        _ => format!("{}; no home yet; {buddies}", view.name),
    }
}

#[cfg(test)]
mod tests {
    use pams_shared::record::{Reason, Why};

    use super::*;
    use crate::{core::HomeView, sample};

    #[test]
    fn the_line_of_status_tells_of_home_and_buddies() {
        let mut view = sample::view();
        let server = view.home.server.unwrap();
        assert_eq!(line(&view), format!("alpha; home {server}; 1 of 4 buddies live"));
        view.home = HomeView { why: Some(Why::new(Reason::NoAnswer, "no answer")), ..HomeView::default() };
        assert_eq!(line(&view), "alpha; no home: no answer; 1 of 4 buddies live");
        view.home.why = None;
        assert_eq!(line(&view), "alpha; no home yet; 1 of 4 buddies live");
    }
}
