//! Rows of labels and values, as a table panel merges them.

use std::collections::BTreeMap;

use super::{
    Card,
    axis::written,
    svg::{Rect, Svg},
};
use crate::grafana::Column;

const ROW: f64 = 19.0;

pub fn draw(svg: &mut Svg, card: &Card<'_>, columns: &[Column], inner: Rect) {
    // By labels: the value of each query.
    let mut rows: BTreeMap<&[(String, String)], BTreeMap<usize, f64>> = BTreeMap::new();
    for line in &card.series {
        if let Some((_, value)) = line.points.last().filter(|p| p.1.is_finite()) {
            rows.entry(&line.labels).or_default().insert(line.query, *value);
        }
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    let first = |values: &BTreeMap<usize, f64>| values.values().next().copied().unwrap_or(0.0);
    rows.sort_by(|a, b| first(&b.1).total_cmp(&first(&a.1)));
    let wide = inner.w / columns.len().max(1) as f64;
    let at = |i: usize| inner.x + i as f64 * wide;
    for (i, column) in columns.iter().enumerate() {
        svg.text(at(i), inner.y + 12.0, column.title, "a", "start");
    }
    let fit = ((inner.h - 16.0) / ROW) as usize;
    for (n, (labels, values)) in rows.iter().take(fit).enumerate() {
        let y = inner.y + 18.0 + n as f64 * ROW;
        svg.horizontal(inner.x, y, inner.w);
        for (i, column) in columns.iter().enumerate() {
            svg.text(at(i), y + 14.0, &cell(column, labels, values), "", "start");
        }
    }
}

fn cell(column: &Column, labels: &[(String, String)], values: &BTreeMap<usize, f64>) -> String {
    match column.field.strip_prefix("Value #").and_then(|letter| letter.bytes().next()) {
        Some(letter) => {
            let value = values.get(&usize::from(letter.wrapping_sub(b'A')));
            value.map_or_else(String::new, |v| written(*v, column.unit))
        }
        None => {
            let label = labels.iter().find(|(name, _)| name == column.field);
            label.map_or_else(String::new, |(_, value)| value.chars().take(13).collect())
        }
    }
}
