//! Grafana's own JSON Schemas: a key that is spelled wrongly, or a text where a number belongs, is refused.

use std::path::Path;

use jsonschema::Validator;
use pams_dashboards::grafana::dashboards;
use serde_json::{Value, json};

/// The schema of a file; of one of its definitions if a name is given.
fn schema(file: &str, definition: Option<&str>) -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/schema/{file}.jsonschema.json"));
    let mut schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    // These two can be anything in Grafana (`byName` takes a text, a unit is one), which the schema writes as an object.
    for (open, key) in [("MatcherConfig", "options"), ("DynamicConfigValue", "value")] {
        if let Some(any) = schema["definitions"].get_mut(open) {
            any["properties"][key] = json!({});
        }
    }
    if let Some(name) = definition {
        schema["$ref"] = json!(format!("#/definitions/{name}"));
    }
    jsonschema::validator_for(&schema).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn problems(validator: &Validator, value: &Value) -> Vec<String> {
    validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|p| p["type"] != "row")
}

#[test]
fn dashboards_are_as_grafana_wants_them() {
    let (whole, one) = (schema("dashboard", None), schema("dashboard", Some("Panel")));
    for dashboard in dashboards() {
        let json = dashboard.json();
        // First each on its own, as the whole only says that a panel is neither a panel nor a row.
        for panel in panels(&json) {
            assert_eq!(problems(&one, panel), Vec::<String>::new(), "{}: {}", dashboard.uid, panel["title"]);
        }
        assert_eq!(problems(&whole, &json), Vec::<String>::new(), "{}", dashboard.uid);
    }
}

#[test]
fn panels_and_queries_are_as_their_plugins_want_them() {
    let query = schema("prometheus", None);
    let none = Vec::<String>::new();
    for dashboard in dashboards() {
        let json = dashboard.json();
        for panel in panels(&json) {
            let name = format!("{}: {}", dashboard.uid, panel["title"]);
            let plugin = panel["type"].as_str().unwrap().replace('-', "");
            assert_eq!(problems(&schema(&plugin, Some("Options")), &panel["options"]), none, "{name}");
            let custom = &panel["fieldConfig"]["defaults"]["custom"];
            if custom.as_object().is_some_and(|c| !c.is_empty()) {
                assert_eq!(problems(&schema(&plugin, Some("FieldConfig")), custom), none, "{name}");
            }
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(problems(&query, target), none, "{name}");
            }
        }
    }
}

#[test]
fn a_mistake_is_found() {
    let whole = schema("dashboard", None);
    let mut dashboard = dashboards()[0].json();
    dashboard["panels"][1]["gridPos"]["x"] = json!("0");
    assert!(!problems(&whole, &dashboard).is_empty());
    let options = schema("timeseries", Some("Options"));
    assert!(!problems(&options, &json!({ "legend": {}, "tooltip": { "mode": "all", "sort": "none" } })).is_empty());
    let field = schema("timeseries", Some("FieldConfig"));
    assert!(!problems(&field, &json!({ "linewidth": 1 })).is_empty());
}
