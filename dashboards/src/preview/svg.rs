//! The few shapes that are drawn.

use std::fmt::Write;

/// Elements of an SVG.
#[derive(Clone, Debug, Default)]
pub struct Svg(pub String);

#[derive(Clone, Copy, Debug)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

const STYLE: &str = "text{font-family:Inter,Helvetica,Arial,sans-serif;fill:#ccccdc;font-size:12px}.t{font-size:20px}\
                     .h{font-size:15px;font-weight:600}.c{font-size:12.5px;font-weight:500}.n{fill:#a8a8b3}.a{fill:#a8a8b3;font-size:11px}.p{fill:#ff9830;font-weight:600}\
                     .g{stroke:#2c3235;stroke-width:1}.k{fill:#181b1f;stroke:#25282d}.l{fill:none;stroke-width:1.4;stroke-linejoin:round}";

/// All of it, on a dark ground.
pub fn document(width: f64, height: f64, elements: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\"><style>{STYLE}</style><rect width=\"100%\" height=\"100%\" fill=\"#111217\"/>\n{elements}</svg>\n"
    )
}

impl Svg {
    pub fn text(&mut self, x: f64, y: f64, text: &str, class: &str, anchor: &str) {
        let anchor = if anchor == "start" { String::new() } else { format!(" text-anchor=\"{anchor}\"") };
        let _ = writeln!(self.0, "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\"{anchor}>{}</text>", escaped(text));
    }

    /// A number that is looked at.
    pub fn big(&mut self, x: f64, y: f64, size: f64, text: &str, colour: &str) {
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" style=\"font-size:{size:.0}px;font-weight:600;fill:{colour}\">{}</text>",
            escaped(text)
        );
    }

    pub fn card(&mut self, r: Rect) {
        let Rect { x, y, w, h } = r;
        let _ = writeln!(
            self.0,
            "<rect class=\"k\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"3\"/>"
        );
    }

    pub fn rect(&mut self, r: Rect, colour: &str, opacity: f64) {
        let Rect { x, y, w, h } = r;
        let _ = write!(self.0, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" fill=\"{colour}\"");
        let _ =
            if opacity < 1.0 { writeln!(self.0, " fill-opacity=\"{opacity:.2}\"/>") } else { writeln!(self.0, "/>") };
    }

    pub fn horizontal(&mut self, x: f64, y: f64, width: f64) {
        let _ = writeln!(self.0, "<path class=\"g\" d=\"M{x:.1} {y:.1}h{width:.1}\"/>");
    }

    pub fn line(&mut self, points: &[(f64, f64)], colour: &str) {
        if let Some(path) = path(points) {
            let _ = writeln!(self.0, "<path class=\"l\" stroke=\"{colour}\" d=\"{path}\"/>");
        }
    }

    pub fn area(&mut self, outline: &[(f64, f64)], colour: &str, opacity: f64) {
        if let Some(path) = path(outline) {
            let _ = writeln!(self.0, "<path fill=\"{colour}\" fill-opacity=\"{opacity:.2}\" d=\"{path}z\"/>");
        }
    }
}

/// Steps from point to point, which are shorter to write than places.
fn path(points: &[(f64, f64)]) -> Option<String> {
    let tenth = |v: f64| (v * 10.0).round() as i64;
    let (first, rest) = points.split_first()?;
    let mut at = (tenth(first.0), tenth(first.1));
    let mut text = format!("M{} {}l", at.0 as f64 / 10.0, at.1 as f64 / 10.0);
    for point in rest {
        let next = (tenth(point.0), tenth(point.1));
        let _ = write!(text, "{} {} ", (next.0 - at.0) as f64 / 10.0, (next.1 - at.1) as f64 / 10.0);
        at = next;
    }
    if rest.is_empty() {
        text.push_str("0.1 0");
    }
    Some(text.trim_end().to_owned())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
