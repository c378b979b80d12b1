//! Panels: what is asked, how it is drawn, and what a reader should make of it.

use super::style::{Colours, PLAIN};
use crate::query::Expr;

/// A panel. [`panel()`] makes one; the rest is said by its methods.
#[derive(Clone, Debug)]
pub struct Panel {
    pub title: &'static str,
    /// What it shows and what to do about it.
    pub description: &'static str,
    /// Grafana's id of a unit, such as `s`.
    pub unit: &'static str,
    pub draw: Draw,
    pub targets: Vec<Target>,
    pub width: u32,
    pub height: u32,
    pub colours: Colours,
    /// From which value on which colour; the first has no bound.
    pub steps: Vec<Step>,
    pub decimals: Option<u8>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Text in place of a value.
    pub words: Vec<(i64, &'static str, &'static str)>,
    /// What is shown where nothing was measured.
    pub nothing: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub from: Option<f64>,
    pub colour: &'static str,
}

#[derive(Clone, Debug)]
pub struct Target {
    pub expr: Expr,
    pub legend: &'static str,
    pub mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Over the time that is shown.
    Range,
    /// At its end.
    Instant,
    /// At its end, as rows.
    Table,
    /// Buckets over the time that is shown.
    Heatmap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// Lines.
    None,
    /// Areas that add up.
    Areas,
    /// Bars that add up.
    Bars,
}

/// What a panel of one thing says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// The newest value, its trend behind it.
    Trend,
    /// The mean, the trend behind it.
    Mean,
    /// The value as of now.
    Now,
    /// The series' name: its value is 1.
    Name,
}

#[derive(Clone, Debug)]
pub enum Draw {
    TimeSeries { stack: Stack, log: bool },
    Stat(Say),
    Heatmap,
    Table(Vec<Column>),
    BarGauge,
    StateTimeline,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// A label, or `Value #A` for what the first target tells.
    pub field: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    /// Links to the dashboard of the peer whose id is in the field.
    pub peer: bool,
}

impl Column {
    pub const fn label(field: &'static str, title: &'static str) -> Self {
        Self { field, title, unit: "string", peer: false }
    }

    pub const fn peer(field: &'static str, title: &'static str) -> Self {
        Self { peer: true, ..Self::label(field, title) }
    }

    pub const fn value(field: &'static str, title: &'static str, unit: &'static str) -> Self {
        Self { field, title, unit, peer: false }
    }
}

/// A third of the width, of lines.
pub fn panel(title: &'static str, unit: &'static str, description: &'static str) -> Panel {
    Panel {
        title,
        description,
        unit,
        draw: Draw::TimeSeries { stack: Stack::None, log: false },
        targets: Vec::new(),
        width: 8,
        height: 8,
        colours: Vec::new(),
        steps: vec![Step { from: None, colour: PLAIN }],
        decimals: None,
        min: None,
        max: None,
        words: Vec::new(),
        nothing: "no data",
    }
}

impl Panel {
    #[must_use]
    pub fn ask(mut self, legend: &'static str, expr: &Expr) -> Self {
        let mode = match self.draw {
            Draw::TimeSeries { .. } | Draw::StateTimeline | Draw::Stat(Say::Trend | Say::Mean) => Mode::Range,
            Draw::Stat(Say::Now | Say::Name) | Draw::BarGauge => Mode::Instant,
            Draw::Table(_) => Mode::Table,
            Draw::Heatmap => Mode::Heatmap,
        };
        self.targets.push(Target { expr: expr.clone(), legend, mode });
        self
    }

    #[must_use]
    pub fn size(self, width: u32, height: u32) -> Self {
        Self { width, height, ..self }
    }

    #[must_use]
    pub fn stacked(self, stack: Stack) -> Self {
        Self { draw: Draw::TimeSeries { stack, log: false }, min: Some(0.0), ..self }
    }

    /// With an axis of powers of ten.
    #[must_use]
    pub fn log(self) -> Self {
        Self { draw: Draw::TimeSeries { stack: Stack::None, log: true }, ..self }
    }

    pub fn stat(self, say: Say) -> Self {
        Self { draw: Draw::Stat(say), width: 4, height: 4, ..self }
    }

    #[must_use]
    pub fn heatmap(self) -> Self {
        Self { draw: Draw::Heatmap, ..self }
    }

    #[must_use]
    pub fn table(self, columns: Vec<Column>) -> Self {
        Self { draw: Draw::Table(columns), ..self }
    }

    #[must_use]
    pub fn bars(self) -> Self {
        Self { draw: Draw::BarGauge, min: Some(0.0), ..self }
    }

    #[must_use]
    pub fn timeline(self) -> Self {
        Self { draw: Draw::StateTimeline, ..self }
    }

    #[must_use]
    pub fn colours(self, colours: Colours) -> Self {
        Self { colours, ..self }
    }

    /// `base` up to the first bound.
    #[must_use]
    pub fn steps(mut self, base: &'static str, steps: &[(f64, &'static str)]) -> Self {
        self.steps = vec![Step { from: None, colour: base }];
        self.steps.extend(steps.iter().map(|(from, colour)| Step { from: Some(*from), colour }));
        self
    }

    #[must_use]
    pub fn words(self, words: &[(i64, &'static str, &'static str)]) -> Self {
        Self { words: words.to_vec(), ..self }
    }

    #[must_use]
    pub fn decimals(self, decimals: u8) -> Self {
        Self { decimals: Some(decimals), ..self }
    }

    /// The axis begins at 0.
    #[must_use]
    pub fn from_zero(self) -> Self {
        Self { min: Some(0.0), ..self }
    }

    /// 0 to 1.
    #[must_use]
    pub fn share(self) -> Self {
        Self { min: Some(0.0), max: Some(1.0), ..self }
    }

    #[must_use]
    pub fn nothing(self, nothing: &'static str) -> Self {
        Self { nothing, ..self }
    }
}
