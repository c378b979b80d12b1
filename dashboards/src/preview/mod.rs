//! Pictures of panels, as SVG: drawn from what a Prometheus answered to the panels' own queries, laid out and coloured as
//! on the dashboard. For a README; it is no Grafana, and says so in the picture. Text only, no script, no font of its own.

mod axis;
mod chart;
mod heatmap;
mod svg;
mod table;

use crate::grafana::{Draw, Panel};
use svg::{Rect, Svg};

/// A panel and what was answered.
#[derive(Clone, Debug)]
pub struct Card<'a> {
    pub panel: &'a Panel,
    pub series: Vec<Line>,
}

/// A series of an answer.
#[derive(Clone, Debug)]
pub struct Line {
    /// As the legend says it.
    pub name: String,
    /// Which of the panel's queries it answers.
    pub query: usize,
    pub labels: Vec<(String, String)>,
    /// Unix time in seconds, and value; what is not a number was not measured.
    pub points: Vec<(f64, f64)>,
}

/// The time that is shown, as unix times in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub from: f64,
    pub to: f64,
    /// Between two points; a wider gap is a gap.
    pub step: f64,
}

/// In the order of the dashboard, by the headlines of its rows.
pub type Rows<'a> = Vec<(&'a str, Vec<Card<'a>>)>;

/// About as wide as a README is shown, so that its text is not made smaller.
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 12.0;
/// Of Grafana's 24 columns and its rows.
const COLUMN: f64 = (WIDTH - 2.0 * MARGIN) / 24.0;
const ROW: f64 = 27.0;
const GAP: f64 = 4.0;
/// A line of the text above.
const LINE: f64 = 18.0;
const LINE_CHARS: usize = 130;
const HEADLINE: f64 = 30.0;

/// The whole picture. `title` is the dashboard's, `story` what goes on in it, `note` says what kind of picture it is.
pub fn draw(title: &str, story: &str, note: &str, rows: &Rows<'_>, span: Span) -> String {
    let mut head = Svg::default();
    head.text(MARGIN + 2.0, 30.0, title, "t", "start");
    head.text(WIDTH - MARGIN, 29.0, note, "p", "end");
    let mut y = 36.0;
    for line in wrapped(story) {
        y += LINE;
        head.text(MARGIN + 2.0, y, &line, "n", "start");
    }
    y += 8.0;
    let mut svg = Svg::default();
    for (headline, cards) in rows {
        svg.text(MARGIN + 2.0, y + 20.0, headline, "h", "start");
        y += HEADLINE;
        let (mut x, mut line) = (0, 0);
        for card in cards {
            let panel = card.panel;
            if x + panel.width > 24 {
                (x, y, line) = (0, y + f64::from(line) * ROW, 0);
            }
            let place = Rect {
                x: MARGIN + f64::from(x) * COLUMN + GAP / 2.0,
                y: y + GAP / 2.0,
                w: f64::from(panel.width) * COLUMN - GAP,
                h: f64::from(panel.height) * ROW - GAP,
            };
            one(&mut svg, card, place, span);
            x += panel.width;
            line = line.max(panel.height);
        }
        y += f64::from(line) * ROW;
    }
    svg::document(WIDTH, y + MARGIN, &(head.0 + &svg.0))
}

/// Lines that fit.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() < LINE_CHARS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn one(svg: &mut Svg, card: &Card<'_>, place: Rect, span: Span) {
    svg.card(place);
    svg.text(place.x + 10.0, place.y + 19.0, card.panel.title, "c", "start");
    let inner = Rect { x: place.x + 10.0, y: place.y + 28.0, w: place.w - 20.0, h: place.h - 36.0 };
    match &card.panel.draw {
        _ if card.series.is_empty() => {
            svg.text(place.x + place.w / 2.0, place.y + place.h / 2.0 + 6.0, card.panel.nothing, "n", "middle");
        }
        Draw::Stat(say) => chart::stat(svg, card, inner, *say, span),
        Draw::TimeSeries { stack, log } => chart::series(svg, card, inner, *stack, *log, span),
        Draw::Heatmap => heatmap::draw(svg, card, inner, span),
        Draw::BarGauge => chart::bars(svg, card, inner),
        Draw::Table(columns) => table::draw(svg, card, columns, inner),
        // Not drawn here; the dashboard has it.
        Draw::StateTimeline => svg.text(inner.x, inner.y + 16.0, "a timeline", "n", "start"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grafana::{Say, Stack, panel};

    const SPAN: Span = Span { from: 100.0, to: 110.0, step: 1.0 };

    fn line(name: &str, values: &[f64]) -> Line {
        let points = values.iter().enumerate().map(|(i, v)| (100.0 + i as f64, *v)).collect();
        Line { name: name.to_owned(), query: 0, labels: vec![("le".into(), name.into())], points }
    }

    fn drawn(panel: &Panel, series: Vec<Line>) -> String {
        draw("T", "S", "N", &vec![("row", vec![Card { panel, series }])], SPAN)
    }

    #[test]
    fn a_gap_is_not_bridged_and_nothing_is_not_zero() {
        let lines = panel("a < b", "s", "About.");
        let picture = drawn(&lines, vec![line("x", &[1.0, 2.0, f64::NAN, 2.0, 1.0])]);
        assert_eq!(picture.matches("class=\"l\"").count(), 2, "{picture}");
        assert!(picture.contains("a &lt; b"));
        assert!(drawn(&lines.nothing("not asked"), Vec::new()).contains("not asked"));
    }

    #[test]
    fn each_kind_of_panel_is_drawn_whatever_it_is_given() {
        let values = [vec![0.0; 5], vec![1e-6, 3.0, 7.0], vec![f64::NAN], Vec::new(), vec![5.0, -1.0]];
        let base = panel("Any", "s", "About.");
        let kinds = [
            base.clone(),
            base.clone().log(),
            base.clone().stacked(Stack::Areas),
            base.clone().stacked(Stack::Bars),
            base.clone().stat(Say::Trend),
            base.clone().stat(Say::Mean),
            base.clone().stat(Say::Name),
            base.clone().bars(),
            base.clone().heatmap(),
            base.clone().timeline(),
            base.table(vec![crate::grafana::Column::label("le", "to")]),
        ];
        for kind in &kinds {
            for values in &values {
                let picture = drawn(kind, vec![line("0.1", values), line("+Inf", values)]);
                assert!(!picture.contains("NaN") && !picture.contains("inf"), "{:?}: {picture}", kind.draw);
                assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
            }
        }
    }
}
