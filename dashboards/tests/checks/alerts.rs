//! Rules and alerts: they ask for what is there, and each alert is tested both ways.

use std::collections::BTreeSet;

use pams_dashboards::grafana::dashboards;
use pams_dashboards::prometheus::{Rule, Timing, alerts, cases, rules};

use crate::promql::{Recorded, check, metric_of};

/// What the rules record; each is good.
pub fn recorded() -> Recorded {
    let mut recorded = Recorded::new();
    for Rule { name, expr, .. } in rules(Timing::default()) {
        let checked = check(&expr.to_string(), &recorded).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(checked.selectors.iter().all(|s| !s.raw_counter), "{name}");
        let levels: Vec<_> = name.split(':').next().unwrap().split('_').collect();
        assert_eq!(checked.labels, levels.into_iter().map(String::from).collect(), "{name} is named by its labels");
        recorded.insert(name, checked.labels);
    }
    recorded
}

#[test]
fn rules_and_alerts_ask_for_what_is_there() {
    let recorded = recorded();
    for alert in alerts(Timing::default()) {
        let checked = check(&alert.expr().to_string(), &recorded).unwrap_or_else(|e| panic!("{}: {e}", alert.name));
        let texts = [alert.summary, alert.description].join(" ");
        for used in texts.split("$labels.").skip(1) {
            let label: String = used.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            assert!(checked.labels.contains(&label), "{}: no label {label}", alert.name);
        }
        let raw = checked.selectors.iter().any(|s| s.raw_counter);
        assert!(!raw || alert.name == "PamsLedgerNotConserved", "{}: a counter without rate", alert.name);
    }
}

#[test]
fn every_alert_says_what_to_do_and_where_to_look() {
    let uids: Vec<_> = dashboards().iter().map(|d| d.uid).collect();
    let mut names = BTreeSet::new();
    for alert in alerts(Timing::default()) {
        assert!(alert.name.starts_with("Pams") && names.insert(alert.name), "{}", alert.name);
        assert!(alert.summary.ends_with(['.', '}']) && alert.description.ends_with(['.', '}']), "{}", alert.name);
        assert!(!alert.runbook.is_empty() && alert.runbook.iter().all(|l| l.ends_with(['.', '?'])), "{}", alert.name);
        assert!(["critical", "warning"].contains(&alert.severity), "{}", alert.name);
        assert!(uids.contains(&alert.dashboard), "{}", alert.name);
        for part in alert.runbook.iter().flat_map(|line| line.split('`')) {
            let name = part.split([' ', '{']).next().unwrap();
            let metric = name.starts_with("pams_");
            assert!(!metric || metric_of(name).is_some(), "{}: {name} is in no catalogue", alert.name);
        }
    }
}

#[test]
fn every_alert_is_tested_both_ways() {
    let names: BTreeSet<_> = alerts(Timing::default()).iter().map(|a| a.name).collect();
    for fires in [true, false] {
        let tested: BTreeSet<_> = cases().iter().filter(|c| c.fires == fires).map(|c| c.alert).collect();
        // That nothing at all is wrong is no test of its own for those that have no near miss.
        assert_eq!(tested, names, "fires: {fires}");
    }
    for case in cases() {
        for (series, _) in &case.series {
            check(series, &recorded()).unwrap_or_else(|e| panic!("{}: {e}", case.alert));
        }
    }
}
