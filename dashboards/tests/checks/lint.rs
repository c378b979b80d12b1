//! What Grafana's dashboard-linter looks for, and what we ask of our own dashboards beyond it.

use std::collections::BTreeSet;

use pams_dashboards::{
    grafana::{Dashboard, Draw, Mode, Panel, dashboards},
    prometheus::{Timing, alerts, rules},
};
use serde_json::Value;

use crate::{
    alerts::recorded,
    promql::{Checked, Recorded, check, metric_of},
};

/// Panels that look at a counter's value itself, and why.
const RAW_COUNTERS: &[(&str, &str)] = &[("Ledger off by", "the totals of one moment are set off against each other")];
/// Metrics that no panel, rule or alert asks for, and why they are there.
const NOT_SHOWN: &[(&str, &str)] = &[];
/// Units of Grafana that we use.
const UNITS: &[&str] = &["short", "s", "percentunit", "ops", "pps", "Bps", "bytes", "string"];

fn each(mut look: impl FnMut(&Dashboard, &Panel)) {
    for dashboard in dashboards() {
        dashboard.panels().for_each(|panel| look(&dashboard, panel));
    }
}

fn asked(panel: &Panel) -> Vec<Checked> {
    let check = |t: &pams_dashboards::grafana::Target| {
        check(&t.expr.to_string(), &Recorded::new()).unwrap_or_else(|e| panic!("{}: {e}", panel.title))
    };
    panel.targets.iter().map(check).collect()
}

/// `{{label}}` of a legend.
fn placeholders(legend: &str) -> Vec<&str> {
    legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()).collect()
}

#[test]
fn variables_are_those_of_the_linter() {
    for dashboard in dashboards() {
        let json = dashboard.json();
        let variables = json["templating"]["list"].as_array().unwrap();
        let of = |name: &str| variables.iter().find(|v| v["name"] == name).unwrap();
        assert_eq!(
            (of("datasource")["type"].as_str(), of("datasource")["label"].as_str()),
            (Some("datasource"), Some("Data source"))
        );
        for (name, label) in [("job", "Job"), ("instance", "Instance")] {
            let v = of(name);
            assert_eq!((v["label"].as_str(), v["allValue"].as_str()), (Some(label), Some(".+")));
            assert!(v["multi"] == true && v["includeAll"] == true && v["type"] == "query", "{v}");
        }
        for v in &variables[1..] {
            assert_eq!(v["datasource"]["uid"], "${datasource}");
            assert_eq!(v["refresh"], 2, "asked anew when the time changes");
        }
        assert_eq!(json["editable"], false);
    }
}

#[test]
fn variables_ask_for_what_is_there() {
    for dashboard in dashboards() {
        for v in &dashboard.variables {
            let inner = v.query.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap();
            let (query, label) = match v.query.starts_with("label_values") {
                true => inner.rsplit_once(", ").map(|(q, l)| (q, Some(l))).unwrap(),
                false => (inner, None),
            };
            // One name or another: each on its own.
            let (names, rest) = match query.strip_prefix("{__name__=~\"").and_then(|q| q.split_once('"')) {
                Some((names, rest)) => (names.split('|').collect(), format!("{{{}", rest.trim_start_matches(','))),
                None => (vec![""], query.to_owned()),
            };
            for name in names {
                let query = format!("{name}{rest}");
                let checked = check(&query, &Recorded::new()).unwrap_or_else(|e| panic!("{}: {e}", v.name));
                assert!(label.is_none_or(|l| checked.labels.contains(l)), "{query} {label:?}");
            }
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_what_unit() {
    each(|dashboard, panel| {
        let name = format!("{}: {}", dashboard.uid, panel.title);
        assert!(!panel.title.is_empty() && panel.title.len() <= 40, "{name}");
        assert!(panel.description.ends_with(['.', '?']) && panel.description.len() >= 20, "{name}");
        assert!(UNITS.contains(&panel.unit), "{name}: {}", panel.unit);
        assert!(!panel.targets.is_empty(), "{name}");
        assert!(panel.targets.iter().all(|t| !t.legend.is_empty()), "{name}");
        assert!(!panel.nothing.is_empty() && panel.nothing != "0", "{name}: nothing is not 0");
    });
    for dashboard in dashboards() {
        let titles: BTreeSet<_> = dashboard.panels().map(|p| p.title).collect();
        assert_eq!(titles.len(), dashboard.panels().count(), "{}: a title twice", dashboard.uid);
    }
}

#[test]
fn every_query_is_good_and_of_the_chosen_targets() {
    each(|dashboard, panel| {
        for checked in asked(panel) {
            for s in &checked.selectors {
                let name = format!("{}: {}: {}", dashboard.uid, panel.title, s.name);
                assert!(!s.recorded, "{name}: dashboards work without the rules");
                for matcher in ["job=~\"$job\"", "instance=~\"$instance\""] {
                    assert!(s.matchers.iter().any(|m| m == matcher), "{name} lacks {matcher}");
                }
                let windows = [None, Some("$__rate_interval"), Some("$__range")];
                assert!(windows.contains(&s.window.as_deref()), "{name}: {:?}", s.window);
                let excused = RAW_COUNTERS.iter().any(|(title, _)| *title == panel.title);
                assert!(!s.raw_counter || excused, "{name}: a counter without rate or increase");
            }
        }
    });
}

#[test]
fn legends_and_columns_name_labels_that_the_answer_has() {
    each(|dashboard, panel| {
        let name = format!("{}: {}", dashboard.uid, panel.title);
        for (target, checked) in panel.targets.iter().zip(asked(panel)) {
            let used = placeholders(target.legend);
            let unknown: Vec<_> = used.iter().filter(|l| !checked.labels.contains(**l)).collect();
            assert!(unknown.is_empty(), "{name}: {unknown:?}");
            if let Draw::Table(columns) = &panel.draw {
                let labels = columns.iter().filter(|c| !c.field.starts_with("Value")).map(|c| c.field.to_owned());
                assert_eq!(labels.collect::<BTreeSet<_>>(), checked.labels, "{name}: else rows do not merge");
            } else if target.mode != Mode::Heatmap && checked.labels.len() != used.len() {
                panic!("{name}: series of {:?} are all called {}", checked.labels, target.legend);
            }
        }
        if let Draw::Table(columns) = &panel.draw {
            let values = columns.iter().filter(|c| c.field.starts_with("Value #")).count();
            assert_eq!(values, panel.targets.len(), "{name}: a column for each query");
            assert!(values > 1, "{name}: a single query's value is called Value");
        }
    });
}

#[test]
fn every_metric_is_shown_or_watched() {
    let mut used = BTreeSet::new();
    let mut asked = |query: &str| {
        let checked = check(query, &recorded()).unwrap_or_else(|e| panic!("{e}"));
        used.extend(checked.selectors.iter().filter_map(|s| metric_of(&s.name)).map(|(m, _)| m.name));
    };
    dashboards().iter().flat_map(Dashboard::panels).flat_map(|p| &p.targets).for_each(|t| asked(&t.expr.to_string()));
    rules(Timing::default()).iter().for_each(|r| asked(&r.expr.to_string()));
    alerts(Timing::default()).iter().for_each(|a| asked(&a.expr().to_string()));
    for metric in [pams_agent::metrics::CATALOGUE, pams_server::metrics::CATALOGUE].into_iter().flatten() {
        let excused = NOT_SHOWN.iter().any(|(name, _)| *name == metric.name);
        assert!(
            used.contains(metric.name) != excused,
            "{}: show it on a dashboard, or say in NOT_SHOWN why not; not both",
            metric.name
        );
    }
}

#[test]
fn nothing_measured_is_never_shown_as_zero() {
    each(|dashboard, panel| {
        for target in &panel.targets {
            let expr = target.expr.to_string();
            assert!(!expr.contains("vector(0)") && !expr.contains("absent("), "{}: {expr}", dashboard.uid);
        }
    });
    for dashboard in dashboards() {
        let text = dashboard.json().to_string();
        assert!(!text.contains("\"spanNulls\":true") && !text.contains("\"insertNulls\":true"), "{}", dashboard.uid);
    }
}

#[test]
fn one_word_has_one_colour() {
    let mut colours: Vec<(&str, &str)> = Vec::new();
    each(|dashboard, panel| {
        for (name, colour) in &panel.colours {
            match colours.iter().find(|(n, _)| n == name) {
                Some((_, other)) => assert_eq!(other, colour, "{}: {name}", dashboard.uid),
                None => colours.push((name, colour)),
            }
        }
    });
}

#[test]
fn the_layout_has_no_overlap_and_no_ragged_edge() {
    for dashboard in dashboards() {
        let json = dashboard.json();
        let panels = json["panels"].as_array().unwrap();
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for p in panels {
            let at = |key: &str| p["gridPos"][key].as_u64().unwrap();
            assert!(ids.insert(p["id"].as_u64().unwrap()), "{p}");
            for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(cell.0 < 24 && taken.insert(cell), "{}: {} overlaps", dashboard.uid, p["title"]);
            }
        }
        let bottom = taken.iter().map(|(_, y)| y + 1).max().unwrap();
        assert_eq!(taken.len() as u64, 24 * bottom, "{}: a hole in the layout", dashboard.uid);
    }
}

#[test]
fn dashboards_link_to_each_other() {
    let all: Vec<Value> = dashboards().iter().map(Dashboard::json).collect();
    let uids: BTreeSet<_> = all.iter().map(|d| d["uid"].as_str().unwrap().to_owned()).collect();
    assert_eq!(uids, ["pams-cluster", "pams-overview", "pams-peer", "pams-server"].map(String::from).into());
    for d in &all {
        assert_eq!((d["links"][0]["tags"][0].as_str(), d["tags"][0].as_str()), (Some("pams"), Some("pams")));
        for link in d.to_string().split("/d/").skip(1) {
            let uid = link.split('?').next().unwrap();
            assert!(uids.contains(uid), "{uid}");
        }
    }
}
