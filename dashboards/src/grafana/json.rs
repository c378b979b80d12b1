//! Dashboards as JSON. Keys come out sorted, so the same dashboard is always the same text.

use serde_json::{Map, Value, json};

use super::{Column, Dashboard, Draw, Mode, Panel, Row, Say, Stack, Target, Variable};

/// The generation of Grafana's dashboard JSON that is written; newer Grafanas lift it up by themselves.
const SCHEMA_VERSION: u32 = 39;
const WIDTH: u32 = 24;
const TAG: &str = "pams";
/// What opens one peer: `{}` is a field of the row.
const PEER_URL: &str = "/d/pams-peer?var-peer=${__data.fields[\"{}\"]}&${datasource:queryparam}&${__url_time_range}";

pub fn dashboard(dashboard: &Dashboard) -> Value {
    let mut variables = vec![json!({
        "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus",
        "description": "The Prometheus that scrapes PAMS.", "refresh": 1, "regex": "", "hide": 0,
        "multi": false, "includeAll": false, "options": [],
    })];
    variables.extend(dashboard.variables.iter().map(variable));
    json!({
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": false,
        "graphTooltip": 1,
        "fiscalYearStartMonth": 0,
        "liveNow": false,
        "timezone": "browser",
        "weekStart": "",
        "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "timepicker": {},
        "annotations": { "list": [] },
        "templating": { "list": variables },
        "links": [{
            "title": "PAMS", "type": "dashboards", "tags": [TAG], "icon": "dashboard", "tooltip": "The other dashboards",
            "url": "", "asDropdown": false, "targetBlank": false, "includeVars": false, "keepTime": true,
        }],
        "panels": panels(&dashboard.rows),
    })
}

fn variable(variable: &Variable) -> Value {
    let mut json = json!({
        "type": "query", "name": variable.name, "label": variable.label, "description": variable.description,
        "datasource": data_source(), "definition": variable.query, "query": variable.query, "regex": variable.regex,
        // On each change of the time that is shown.
        "refresh": 2,
        "sort": 1, "hide": 0, "options": [], "multi": variable.many, "includeAll": variable.many,
    });
    if variable.many {
        json["allValue"] = ".+".into();
        json["current"] = json!({ "selected": true, "text": ["All"], "value": ["$__all"] });
    }
    json
}

fn data_source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

/// From left to right, and on below when a line is full.
fn panels(rows: &[Row]) -> Vec<Value> {
    let mut all = Vec::new();
    let mut y = 0;
    for row in rows {
        let id = all.len() + 1;
        all.push(json!({
            "type": "row", "id": id, "title": row.title, "collapsed": false, "panels": [],
            "gridPos": { "x": 0, "y": y, "w": WIDTH, "h": 1 },
        }));
        y += 1;
        let (mut x, mut line) = (0, 0);
        for panel in &row.panels {
            if x + panel.width > WIDTH {
                (x, y, line) = (0, y + line, 0);
            }
            let mut json = one(panel);
            json["id"] = (all.len() + 1).into();
            json["gridPos"] = json!({ "x": x, "y": y, "w": panel.width, "h": panel.height });
            all.push(json);
            x += panel.width;
            line = line.max(panel.height);
        }
        y += line;
    }
    all
}

fn one(panel: &Panel) -> Value {
    let mut json = json!({
        "type": plugin(&panel.draw),
        "title": panel.title,
        "description": panel.description,
        "datasource": data_source(),
        "targets": panel.targets.iter().enumerate().map(|(i, t)| target(i, t)).collect::<Vec<_>>(),
        "options": options(panel),
        "fieldConfig": { "defaults": defaults(panel), "overrides": overrides(panel) },
        "transparent": false,
    });
    if let Draw::Table(columns) = &panel.draw {
        json["transformations"] = transformations(columns, panel.targets.len());
    }
    json
}

fn plugin(draw: &Draw) -> &'static str {
    match draw {
        Draw::TimeSeries { .. } => "timeseries",
        Draw::Stat(_) => "stat",
        Draw::Heatmap => "heatmap",
        Draw::Table(_) => "table",
        Draw::BarGauge => "bargauge",
        Draw::StateTimeline => "state-timeline",
    }
}

fn target(i: usize, target: &Target) -> Value {
    let ref_id = char::from(b'A' + (i % 26) as u8).to_string();
    let (range, format) = match target.mode {
        Mode::Range => (true, "time_series"),
        Mode::Heatmap => (true, "heatmap"),
        Mode::Instant => (false, "time_series"),
        Mode::Table => (false, "table"),
    };
    json!({
        "refId": ref_id, "datasource": data_source(), "editorMode": "code", "expr": target.expr.to_string(),
        "legendFormat": target.legend, "range": range, "instant": !range, "format": format,
    })
}

fn options(panel: &Panel) -> Value {
    let reduce = |calc| json!({ "calcs": [calc], "fields": "", "values": false });
    let legend = |show: bool| json!({ "displayMode": "list", "placement": "bottom", "showLegend": show, "calcs": [] });
    match &panel.draw {
        Draw::TimeSeries { .. } => json!({ "legend": legend(true), "tooltip": { "mode": "multi", "sort": "desc" } }),
        Draw::Stat(say) => json!({
            "graphMode": if matches!(say, Say::Trend | Say::Mean) { "area" } else { "none" },
            "colorMode": "value", "justifyMode": "auto", "textMode": match say { Say::Trend | Say::Mean => "value", Say::Now => "auto", Say::Name => "name" },
            "wideLayout": true, "showPercentChange": false, "percentChangeColorMode": "standard", "orientation": "auto",
            "reduceOptions": reduce(if *say == Say::Mean { "mean" } else { "lastNotNull" }),
        }),
        Draw::Heatmap => json!({
            "calculate": false, "cellGap": 1, "showValue": "never", "legend": { "show": true },
            "color": { "mode": "scheme", "scheme": "Blues", "fill": "blue", "scale": "exponential", "exponent": 0.5,
                "steps": 64, "reverse": false },
            "yAxis": { "unit": panel.unit, "axisPlacement": "left" },
            "rowsFrame": { "layout": "auto" },
            "cellValues": { "unit": "short" },
            // What is empty is drawn empty.
            "filterValues": { "le": 1e-9 },
            "tooltip": { "mode": "single", "yHistogram": true, "showColorScale": true },
            "exemplars": { "color": "rgba(255,0,255,0.7)" },
        }),
        Draw::Table(_) => json!({ "showHeader": true, "cellHeight": "sm", "frameIndex": 0,
            "footer": { "show": false, "reducer": ["sum"], "countRows": false } }),
        Draw::BarGauge => json!({
            "displayMode": "basic", "valueMode": "text", "namePlacement": "left", "showUnfilled": true, "sizing": "auto",
            "minVizWidth": 8, "minVizHeight": 16, "maxVizHeight": 48, "orientation": "horizontal",
            "legend": legend(false), "reduceOptions": reduce("lastNotNull"),
        }),
        Draw::StateTimeline => json!({
            "showValue": "never", "rowHeight": 0.8, "mergeValues": true, "alignValue": "left", "perPage": 20,
            "legend": legend(true), "tooltip": { "mode": "single", "sort": "none" },
        }),
    }
}

fn defaults(panel: &Panel) -> Value {
    let steps = panel.steps.iter().map(|s| json!({ "value": s.from, "color": s.colour })).collect::<Vec<_>>();
    let by_value = !matches!(panel.draw, Draw::TimeSeries { .. });
    let mut json = json!({
        "unit": panel.unit,
        "noValue": panel.nothing,
        "color": { "mode": if by_value { "thresholds" } else { "palette-classic-by-name" } },
        "thresholds": { "mode": "absolute", "steps": steps },
        "custom": custom(panel),
    });
    for (key, bound) in [("min", panel.min), ("max", panel.max)] {
        if let Some(bound) = bound {
            json[key] = bound.into();
        }
    }
    if let Some(decimals) = panel.decimals {
        json["decimals"] = decimals.into();
    }
    if !panel.words.is_empty() {
        let word = |(i, (value, text, colour)): (usize, &(i64, &str, &str))| {
            (value.to_string(), json!({ "text": text, "color": colour, "index": i }))
        };
        let options: Map<String, Value> = panel.words.iter().enumerate().map(word).collect();
        json["mappings"] = json!([{ "type": "value", "options": options }]);
    }
    json
}

fn custom(panel: &Panel) -> Value {
    let hide = json!({ "legend": false, "tooltip": false, "viz": false });
    match &panel.draw {
        Draw::TimeSeries { stack, log } => {
            let scale = if *log { json!({ "type": "log", "log": 10 }) } else { json!({ "type": "linear" }) };
            let has_bounds = panel.steps.len() > 1;
            json!({
                "drawStyle": if *stack == Stack::Bars { "bars" } else { "line" },
                "lineInterpolation": "linear", "lineWidth": 1,
                "fillOpacity": match stack { Stack::None => 8, Stack::Areas => 60, Stack::Bars => 80 },
                "gradientMode": "none", "showPoints": "auto", "pointSize": 4,
                "stacking": { "mode": if *stack == Stack::None { "none" } else { "normal" }, "group": "A" },
                // A gap is a gap: what was not measured is not drawn.
                "spanNulls": false, "insertNulls": false,
                "axisPlacement": "auto", "axisLabel": "", "axisColorMode": "text", "axisBorderShow": false,
                "axisCenteredZero": false, "scaleDistribution": scale, "hideFrom": hide,
                "thresholdsStyle": { "mode": if has_bounds { "dashed" } else { "off" } },
            })
        }
        Draw::Heatmap => json!({ "scaleDistribution": { "type": "linear" }, "hideFrom": hide }),
        Draw::Table(_) => json!({ "align": "auto", "inspect": false }),
        Draw::StateTimeline => {
            json!({ "lineWidth": 0, "fillOpacity": 80, "spanNulls": false, "insertNulls": false, "hideFrom": hide })
        }
        Draw::Stat(_) | Draw::BarGauge => json!({}),
    }
}

fn overrides(panel: &Panel) -> Vec<Value> {
    let by_name = |name: &str, properties: Value| json!({ "matcher": { "id": "byName", "options": name }, "properties": properties });
    let colour = |(name, colour): &(&str, &str)| {
        by_name(name, json!([{ "id": "color", "value": { "mode": "fixed", "fixedColor": colour } }]))
    };
    let mut all: Vec<Value> = panel.colours.iter().map(colour).collect();
    if let Draw::Table(columns) = &panel.draw {
        for column in columns {
            let mut properties = vec![json!({ "id": "unit", "value": column.unit })];
            if column.peer {
                let url = PEER_URL.replace("{}", column.title);
                properties.push(json!({ "id": "links", "value": [{ "title": "Look at this peer", "url": url }] }));
            }
            all.push(by_name(column.title, properties.into()));
        }
    }
    all
}

/// One row for each set of labels; the columns in their order and by their titles, and no others.
fn transformations(columns: &[Column], targets: usize) -> Value {
    let index = columns.iter().enumerate().map(|(i, c)| (c.field.to_owned(), i.into())).collect::<Map<_, _>>();
    let names = columns.iter().map(|c| (c.field.to_owned(), c.title.into())).collect::<Map<_, _>>();
    let fields = columns.iter().map(|c| c.field).collect::<Vec<_>>();
    let mut all = vec![json!({ "id": "filterFieldsByName", "options": { "include": { "names": fields } } })];
    if targets > 1 {
        all.insert(0, json!({ "id": "merge", "options": {} }));
    }
    all.push(
        json!({ "id": "organize", "options": { "indexByName": index, "renameByName": names, "excludeByName": {} } }),
    );
    all.into()
}
