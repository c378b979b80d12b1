//! Axes: which values have a mark, and how a value is written in its unit.

/// From values to places between 0 (below) and 1 (above).
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    /// That shows all of these values; from 0 if it has no other lower end and is not of powers of ten.
    pub fn of(values: impl Iterator<Item = f64>, log: bool, min: Option<f64>, max: Option<f64>) -> Self {
        let fit = |v: &f64| v.is_finite() && (!log || *v > 0.0);
        let (low, high) = values.filter(fit).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if low > high { (0.1, 1.0) } else { (low, high) };
        if log {
            // Whole decades.
            let low = 10f64.powf(low.log10().floor());
            return Self { low, high: 10f64.powf(high.log10().ceil()).max(low * 10.0), log };
        }
        let low = min.unwrap_or(low.min(0.0)).min(low);
        let high = max.unwrap_or(high).max(high);
        let high = if high > low { high } else { low + 1.0 };
        let step = step(high - low);
        Self { low: (low / step).floor() * step, high: (high / step - 1e-9).ceil() * step, log }
    }

    pub fn place(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low).log10() - self.low.log10()) / (self.high.log10() - self.low.log10())
        } else {
            (value - self.low) / (self.high - self.low)
        };
        part.clamp(0.0, 1.0)
    }

    pub fn marks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.high / self.low).log10().round() as i32;
            return (0..=decades).map(|i| self.low * 10f64.powi(i)).collect();
        }
        let step = step(self.high - self.low);
        let count = ((self.high - self.low) / step).round() as usize;
        (0..=count).map(|i| self.low + i as f64 * step).collect()
    }
}

/// 1, 2 or 5 of some power of ten: three to six of them make `range`.
fn step(range: f64) -> f64 {
    let power = 10f64.powf((range / 5.0).log10().floor());
    let of = range / 5.0 / power;
    power
        * if of <= 1.0 {
            1.0
        } else if of <= 2.0 {
            2.0
        } else if of <= 5.0 {
            5.0
        } else {
            10.0
        }
}

/// With its unit, and few digits.
pub fn written(value: f64, unit: &str) -> String {
    let a = value.abs();
    match unit {
        "s" if a == 0.0 => "0 s".to_owned(),
        "s" if a < 1e-3 => format!("{} µs", digits(value * 1e6)),
        "s" if a < 1.0 => format!("{} ms", digits(value * 1e3)),
        "s" if a < 120.0 => format!("{} s", digits(value)),
        "s" if a < 7_200.0 => format!("{} min", digits(value / 60.0)),
        "s" => format!("{} h", digits(value / 3_600.0)),
        "percentunit" => format!("{} %", digits(value * 100.0)),
        "ops" => format!("{}/s", digits(value)),
        "pps" => format!("{} p/s", digits(value)),
        "Bps" => format!("{} B/s", digits(value)),
        "bytes" => format!("{} MiB", digits(value / 1_048_576.0)),
        _ => digits(value),
    }
}

/// Three digits that count.
fn digits(value: f64) -> String {
    let a = value.abs();
    let decimals = if a >= 100.0 || a == 0.0 {
        0
    } else if a >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_with_few_digits_and_axes_have_few_marks() {
        for (value, unit, text) in [
            (0.0, "s", "0 s"),
            (0.000_052, "s", "52 µs"),
            (0.0845, "s", "84.5 ms"),
            (86_400.0, "s", "24 h"),
            (0.998_4, "percentunit", "99.8 %"),
            (3.0, "short", "3"),
        ] {
            assert_eq!(written(value, unit), text);
        }
        let axis = Axis::of([3.0, 47.0].into_iter(), false, None, None);
        assert_eq!(axis.marks(), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        assert_eq!(axis.place(25.0), 0.5);
        let axis = Axis::of([0.002, 0.4].into_iter(), true, None, None);
        assert_eq!(axis.marks().len(), 4);
        assert!((axis.place(0.1) - 2.0 / 3.0).abs() < 1e-9);
    }
}
