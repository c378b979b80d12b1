//! How many observations fell into which bucket when.

use super::{
    Card, Line, Span,
    axis::written,
    chart::clock,
    svg::{Rect, Svg},
};
use crate::grafana::style::BLUE;

const LEFT: f64 = 52.0;
const BELOW: f64 = 18.0;

pub fn draw(svg: &mut Svg, card: &Card<'_>, inner: Rect, span: Span) {
    let plot = Rect { x: inner.x + LEFT, y: inner.y + 4.0, w: inner.w - LEFT, h: inner.h - BELOW };
    let rows = buckets(&card.series);
    let used = |(_, counts): &(f64, Vec<(f64, f64)>)| counts.iter().any(|c| c.1 > 0.0);
    let (Some(first), Some(last)) = (rows.iter().position(used), rows.iter().rposition(used)) else {
        return svg.text(inner.x + inner.w / 2.0, inner.y + inner.h / 2.0, card.panel.nothing, "n", "middle");
    };
    let rows = &rows[first..=last];
    let most = rows.iter().flat_map(|(_, counts)| counts.iter().map(|c| c.1)).fold(0.0, f64::max);
    let high = plot.h / rows.len() as f64;
    let wide = plot.w * span.step / (span.to - span.from);
    for (i, (bound, counts)) in rows.iter().enumerate() {
        let y = plot.y + plot.h - (i + 1) as f64 * high;
        let bound = if bound.is_finite() { written(*bound, card.panel.unit) } else { "more".to_owned() };
        svg.text(plot.x - 6.0, y + 3.5, &bound, "a", "end");
        for (t, count) in counts.iter().filter(|c| c.1 > 0.0) {
            let x = plot.x + wide * ((t - span.from) / span.step - 1.0).max(0.0);
            let cell = Rect { x, y: y + 0.5, w: (wide - 0.5).min(plot.x + plot.w - x).max(0.5), h: high - 1.0 };
            // The root, so that few are seen beside many.
            svg.rect(cell, BLUE, 0.12 + 0.88 * (count / most).sqrt());
        }
    }
    clock(svg, plot, span);
}

/// From cumulative to each on its own, by rising bound.
fn buckets(series: &[Line]) -> Vec<(f64, Vec<(f64, f64)>)> {
    let bound = |l: &Line| l.labels.iter().find(|(k, _)| k == "le").and_then(|(_, v)| v.parse::<f64>().ok());
    let mut rising: Vec<(f64, &Line)> = series.iter().filter_map(|l| Some((bound(l)?, l))).collect();
    rising.sort_by(|a, b| a.0.total_cmp(&b.0));
    let below = |i: usize, t: f64| {
        let line = i.checked_sub(1).map(|i| rising[i].1);
        line.and_then(|l| l.points.iter().find(|p| p.0 == t)).map_or(0.0, |p| p.1)
    };
    let own = |(i, (bound, line)): (usize, &(f64, &Line))| {
        let finite = line.points.iter().filter(|p| p.1.is_finite());
        // Rates are extrapolated, so tiny differences are noise.
        let counts = finite.map(|(t, v)| (*t, v - below(i, *t))).map(|(t, n)| (t, if n < 0.05 { 0.0 } else { n }));
        (*bound, counts.collect())
    };
    rising.iter().enumerate().map(own).collect()
}
