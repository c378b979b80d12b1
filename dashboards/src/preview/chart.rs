//! Lines, areas and bars over time, single numbers, and bars of single numbers.

use super::{
    Card, Line, Span,
    axis::{Axis, written},
    svg::{Rect, Svg},
};
use crate::grafana::{Panel, Say, Stack, style};

/// For series that have no colour of their own.
const PALETTE: [&str; 8] =
    [style::BLUE, style::GREEN, style::ORANGE, style::PURPLE, style::YELLOW, style::PALE, style::RED, "#5CC8B8"];
const LEFT: f64 = 52.0;
const BELOW: f64 = 34.0;
/// Width of a time.
const LABEL: f64 = 28.0;

fn colour(panel: &Panel, i: usize, line: &Line) -> &'static str {
    panel.colours.iter().find(|(name, _)| *name == line.name).map_or(PALETTE[i % PALETTE.len()], |(_, c)| c)
}

/// By the panel's steps.
fn step_colour(panel: &Panel, value: f64) -> &'static str {
    let reached = panel.steps.iter().rev().find(|s| s.from.is_none_or(|from| value >= from));
    reached.map(|s| s.colour).filter(|c| *c != style::PLAIN).unwrap_or("#ccccdc")
}

/// The plot's own rectangle within a card; marks and lines are drawn beside and behind it.
pub fn frame(svg: &mut Svg, inner: Rect, axis: &Axis, unit: &str, span: Span) -> Rect {
    let plot = Rect { x: inner.x + LEFT, y: inner.y + 4.0, w: inner.w - LEFT, h: inner.h - BELOW };
    for mark in axis.marks() {
        let y = plot.y + plot.h * (1.0 - axis.place(mark));
        svg.horizontal(plot.x, y, plot.w);
        svg.text(plot.x - 6.0, y + 3.5, &written(mark, unit), "a", "end");
    }
    clock(svg, plot, span);
    plot
}

/// Times below a plot, since the beginning.
pub fn clock(svg: &mut Svg, plot: Rect, span: Span) {
    let length = span.to - span.from;
    let every = [5.0, 10.0, 15.0, 30.0, 60.0, 300.0, 900.0].into_iter().find(|e| length / e <= 6.0).unwrap_or(3_600.0);
    for i in 0..=(length / every) as usize {
        let at = i as f64 * every;
        let text = format!("{}:{:02}", at as u64 / 60, at as u64 % 60);
        let x = plot.w * at / length;
        let anchor = match i {
            0 => "start",
            _ if plot.w - x < LABEL / 2.0 => "end",
            _ => "middle",
        };
        svg.text(plot.x + x, plot.y + plot.h + 14.0, &text, "a", anchor);
    }
}

fn legend(svg: &mut Svg, inner: Rect, names: &[(&str, &str)]) {
    let (mut x, y) = (inner.x + 4.0, inner.y + inner.h - 1.0);
    for (i, (name, colour)) in names.iter().enumerate() {
        let width = 22.0 + 6.4 * name.chars().count() as f64;
        if x + width > inner.x + inner.w {
            svg.text(x, y, &format!("+{}", names.len() - i), "a", "start");
            return;
        }
        svg.rect(Rect { x, y: y - 6.0, w: 12.0, h: 4.0 }, colour, 1.0);
        svg.text(x + 16.0, y, name, "a", "start");
        x += width;
    }
}

/// Runs of points without a gap.
fn runs(points: &[(f64, f64)], step: f64) -> Vec<Vec<(f64, f64)>> {
    let mut runs: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut last = f64::NEG_INFINITY;
    for (t, v) in points.iter().filter(|(_, v)| v.is_finite()) {
        if t - last > 1.5 * step {
            runs.push(Vec::new());
        }
        if let Some(run) = runs.last_mut() {
            run.push((*t, *v));
        }
        last = *t;
    }
    runs
}

pub fn series(svg: &mut Svg, card: &Card<'_>, inner: Rect, stack: Stack, log: bool, span: Span) {
    let panel = card.panel;
    let shown: Vec<&Line> =
        card.series.iter().filter(|l| stack == Stack::None || l.points.iter().any(|p| p.1 > 0.0)).collect();
    let names: Vec<_> = shown.iter().enumerate().map(|(i, l)| (l.name.as_str(), colour(panel, i, l))).collect();
    let values = shown.iter().flat_map(|l| l.points.iter().map(|p| p.1));
    if stack == Stack::None {
        let axis = Axis::of(values, log, panel.min, panel.max);
        let plot = frame(svg, inner, &axis, panel.unit, span);
        for (line, (_, colour)) in shown.iter().zip(&names) {
            for run in runs(&line.points, span.step) {
                let places: Vec<_> = run.iter().map(|p| place(plot, span, *p, &axis)).collect();
                svg.line(&places, colour);
            }
        }
    } else {
        let sums = stacked(&shown, span);
        let axis = Axis::of(sums.iter().flatten().map(|p| p.2), false, Some(0.0), panel.max);
        let plot = frame(svg, inner, &axis, panel.unit, span);
        for (layer, (_, colour)) in sums.iter().zip(&names) {
            match stack {
                Stack::Bars => bars_over_time(svg, layer, plot, &axis, colour, span),
                _ => area(svg, layer, plot, &axis, colour, span),
            }
        }
    }
    legend(svg, inner, &names);
}

fn place(plot: Rect, span: Span, (t, v): (f64, f64), axis: &Axis) -> (f64, f64) {
    (plot.x + plot.w * (t - span.from) / (span.to - span.from), plot.y + plot.h * (1.0 - axis.place(v)))
}

/// Time, lower and upper edge of each point of each series.
fn stacked(shown: &[&Line], span: Span) -> Vec<Vec<(f64, f64, f64)>> {
    let slot = |t: f64| ((t - span.from) / span.step).round() as i64;
    let mut below = std::collections::BTreeMap::new();
    let layer = |line: &&Line| {
        let point = |(t, v): &(f64, f64)| {
            let low = below.entry(slot(*t)).or_insert(0.0);
            let edges = (*t, *low, *low + v.max(0.0));
            *low = edges.2;
            edges
        };
        line.points.iter().filter(|p| p.1.is_finite()).map(point).collect()
    };
    shown.iter().map(layer).collect()
}

fn area(svg: &mut Svg, layer: &[(f64, f64, f64)], plot: Rect, axis: &Axis, colour: &str, span: Span) {
    let upper = layer.iter().map(|(t, _, high)| place(plot, span, (*t, *high), axis));
    let lower = layer.iter().rev().map(|(t, low, _)| place(plot, span, (*t, *low), axis));
    let outline: Vec<_> = upper.clone().chain(lower).collect();
    svg.area(&outline, colour, 0.55);
    svg.line(&upper.collect::<Vec<_>>(), colour);
}

fn bars_over_time(svg: &mut Svg, layer: &[(f64, f64, f64)], plot: Rect, axis: &Axis, colour: &str, span: Span) {
    let w = (plot.w * span.step / (span.to - span.from) * 0.8).max(1.0);
    for (t, low, high) in layer.iter().filter(|(_, low, high)| high > low) {
        let (x, top) = place(plot, span, (*t, *high), axis);
        let (_, bottom) = place(plot, span, (*t, *low), axis);
        svg.rect(Rect { x: x - w / 2.0, y: top, w, h: bottom - top }, colour, 0.9);
    }
}

/// One number for all points of the first series, its trend below.
pub fn stat(svg: &mut Svg, card: &Card<'_>, inner: Rect, say: Say, span: Span) {
    let panel = card.panel;
    let points: Vec<(f64, f64)> = card.series[0].points.iter().copied().filter(|p| p.1.is_finite()).collect();
    let Some((_, last)) = points.last() else {
        return svg.text(inner.x + inner.w / 2.0, inner.y + inner.h / 2.0, panel.nothing, "n", "middle");
    };
    let value = if say == Say::Mean { points.iter().map(|p| p.1).sum::<f64>() / points.len() as f64 } else { *last };
    let text = if say == Say::Name { card.series[0].name.clone() } else { written(value, panel.unit) };
    let colour = step_colour(panel, value);
    let axis = Axis::of(points.iter().map(|p| p.1), false, panel.min, panel.max);
    let plot = Rect { x: inner.x - 9.0, y: inner.y + inner.h * 0.62, w: inner.w + 18.0, h: inner.h * 0.38 + 6.0 };
    let mut outline: Vec<_> = points.iter().map(|p| place(plot, span, *p, &axis)).collect();
    if let (Some(first), Some(end)) = (outline.first().copied(), outline.last().copied()) {
        outline.push((end.0, plot.y + plot.h));
        outline.push((first.0, plot.y + plot.h));
        svg.area(&outline, colour, 0.18);
    }
    svg.big(inner.x + inner.w / 2.0, inner.y + inner.h * 0.52, 24.0, &text, colour);
}

/// The last value of each series, beside each other.
pub fn bars(svg: &mut Svg, card: &Card<'_>, inner: Rect) {
    let value = |l: &Line| l.points.last().map(|p| p.1).filter(|v| v.is_finite());
    let shown: Vec<(&str, f64)> = card.series.iter().filter_map(|l| Some((l.name.as_str(), value(l)?))).collect();
    let max = shown.iter().map(|s| s.1).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let high = (inner.h / shown.len().max(1) as f64).min(40.0);
    let (left, right) = (84.0, 66.0);
    for (i, (name, value)) in shown.iter().enumerate() {
        let bar =
            Rect { x: inner.x + left, y: inner.y + i as f64 * high + 4.0, w: inner.w - left - right, h: high - 10.0 };
        svg.rect(bar, "#25282d", 1.0);
        let full = Rect { w: (bar.w * (value / max).clamp(0.0, 1.0)).max(1.0), ..bar };
        svg.rect(full, step_colour(card.panel, *value), 0.85);
        svg.text(bar.x - 8.0, bar.y + bar.h / 2.0 + 4.0, name, "", "end");
        svg.text(bar.x + bar.w + 8.0, bar.y + bar.h / 2.0 + 4.0, &written(*value, card.panel.unit), "", "start");
    }
}
