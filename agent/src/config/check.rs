//! Bounds that types do not know, each with what was wrong and what to do.

use std::{collections::BTreeSet, fmt, time::Duration};

use pams_shared::{
    config::Flaw,
    frame::{ADDRESSES_MAX, NAME_BYTES_MAX, OVERLAY_BYTES_MAX, wire::steers},
};

use super::{BUDDIES_MAX, Buddy};
use crate::core::SUBSCRIPTIONS_MAX;

pub(super) fn label(key: &'static str, text: &str) -> Result<(), Flaw> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        let problem = format!("{text:?} is no name");
        return Err(Flaw::new(key, problem, format!("give 1 to {NAME_BYTES_MAX} bytes without control characters")));
    }
    Ok(())
}

pub(super) fn overlay(name: &str) -> Result<(), Flaw> {
    let problem = if name.is_empty() || name.len() > OVERLAY_BYTES_MAX {
        format!("{name:?} has {} bytes", name.len())
    } else if name.contains(steers) {
        format!("{name:?} has a control character or a mark for the direction of writing")
    } else if name.split('/').any(str::is_empty) {
        format!("{name:?} has an empty part")
    } else {
        return Ok(());
    };
    let advice = format!("give 1 to {OVERLAY_BYTES_MAX} bytes, parts joined by single slashes, as in \"games/chess\"");
    Err(Flaw::new("overlays", problem, advice))
}

pub(super) fn roster(buddies: &[Buddy]) -> Result<(), Flaw> {
    count("buddy", buddies.len(), BUDDIES_MAX)?;
    let subscribed = buddies.iter().filter(|b| b.subscribe).count();
    if subscribed > SUBSCRIPTIONS_MAX {
        let problem = format!("{subscribed} have subscribe = true");
        return Err(Flaw::new("buddy", problem, format!("give {SUBSCRIPTIONS_MAX} at most")));
    }
    let mut seen = BTreeSet::new();
    for buddy in buddies {
        if !seen.insert(buddy.id) {
            return Err(Flaw::new("buddy", format!("{} is there twice", buddy.id), "name each buddy once"));
        }
        if let Some(name) = &buddy.name {
            label("buddy", name)?;
        }
        if buddy.addresses.len() > ADDRESSES_MAX {
            let problem = format!("{} has {} addresses", buddy.id, buddy.addresses.len());
            return Err(Flaw::new("buddy", problem, format!("give {ADDRESSES_MAX} at most")));
        }
    }
    Ok(())
}

pub(super) fn count(key: &'static str, n: usize, max: usize) -> Result<(), Flaw> {
    if n > max {
        return Err(Flaw::new(key, format!("has {n} entries"), format!("give {max} at most")));
    }
    Ok(())
}

pub(super) fn unique<T: PartialEq + fmt::Display>(key: &'static str, list: &[T]) -> Result<(), Flaw> {
    match list.iter().enumerate().find(|(i, item)| list[..*i].contains(item)) {
        Some((_, twice)) => Err(Flaw::new(key, format!("{twice} is there twice"), "give each once")),
        None => Ok(()),
    }
}

pub(super) fn within(key: &'static str, n: usize, min: usize, max: usize) -> Result<(), Flaw> {
    if !(min..=max).contains(&n) {
        return Err(Flaw::new(key, format!("{n} is out of bounds"), format!("give {min} to {max}")));
    }
    Ok(())
}

pub(super) fn span(key: &'static str, d: Duration, min: Duration, max: Duration) -> Result<(), Flaw> {
    if !(min..=max).contains(&d) {
        let problem = format!("{} is out of bounds", shown(d));
        return Err(Flaw::new(key, problem, format!("give {} to {}", shown(min), shown(max))));
    }
    Ok(())
}

fn shown(d: Duration) -> String {
    humantime::format_duration(d).to_string()
}
