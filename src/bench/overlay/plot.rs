//! Cumulative distributions as one SVG (SVG 1.1), for documents. Pure.

use std::fmt::Write;

/// One curve.
#[derive(Debug, Clone)]
pub struct Curve {
    /// For the legend.
    pub name: &'static str,
    /// CSS.
    pub colour: &'static str,
    /// In pixels.
    pub width: f64,
    /// SVG's `stroke-dasharray`; empty for a whole line.
    pub dashes: &'static str,
    /// In ms.
    pub values: Vec<f64>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// The field of the curves, in pixels from the top left.
const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 22.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = HEIGHT - 52.0;

/// The axes' scales.
struct Scale {
    max_ms: f64,
}

/// The curves with axes and legend, and a line at `mark_ms`.
pub fn svg(title: &str, curves: &[Curve], mark_ms: f64) -> String {
    let values = curves.iter().flat_map(|curve| &curve.values);
    let most = values.copied().fold(mark_ms, f64::max);
    let tick = if most > 300.0 { 100.0 } else { 50.0 };
    let scale = Scale {
        max_ms: (most / 50.0).ceil() * 50.0,
    };
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="12" fill="#24292f">
<title>{title}</title>
<rect width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#ffffff"/>
<text x="{LEFT}" y="26" font-size="15" font-weight="600">{title}</text>
"##
    );
    axes(&mut out, &scale, tick);
    mark(&mut out, &scale, mark_ms);
    for curve in curves {
        line(&mut out, &scale, curve);
    }
    legend(&mut out, curves);
    out.push_str("</svg>\n");
    out
}

fn axes(out: &mut String, scale: &Scale, tick: f64) {
    for percent in [0.0, 25.0, 50.0, 75.0, 100.0] {
        let y = scale.y(percent / 100.0);
        let colour = if percent == 0.0 { "#57606a" } else { "#d8dee4" };
        put(
            out,
            &format!(r#"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="{colour}"/>"#),
        );
        let (x, y) = (LEFT - 8.0, y + 4.0);
        put(
            out,
            &format!(r#"<text x="{x}" y="{y:.1}" text-anchor="end">{percent} %</text>"#),
        );
    }
    let mut at = 0.0;
    while at <= scale.max_ms {
        let x = scale.x(at);
        let end = BOTTOM + 5.0;
        put(
            out,
            &format!(r##"<path d="M{x:.1} {BOTTOM}V{end}" stroke="#57606a"/>"##),
        );
        let y = BOTTOM + 20.0;
        put(
            out,
            &format!(r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{at}</text>"#),
        );
        at += tick;
    }
    let (x, y) = ((LEFT + RIGHT) / 2.0, HEIGHT - 12.0);
    put(
        out,
        &format!(r#"<text x="{x}" y="{y}" text-anchor="middle">one-way delay, ms</text>"#),
    );
    let y = (TOP + BOTTOM) / 2.0;
    put(
        out,
        &format!(
            r#"<text transform="translate(16 {y}) rotate(-90)" text-anchor="middle">share of pairs</text>"#
        ),
    );
}

fn mark(out: &mut String, scale: &Scale, ms: f64) {
    let x = scale.x(ms);
    put(
        out,
        &format!(r##"<path d="M{x:.1} {TOP}V{BOTTOM}" stroke="#8c959f" stroke-dasharray="2 3"/>"##),
    );
    let (x, y) = (x + 5.0, BOTTOM - 8.0);
    put(
        out,
        &format!(r##"<text x="{x:.1}" y="{y}" fill="#57606a">{ms} ms</text>"##),
    );
}

/// A step up at every value; level after the last.
fn line(out: &mut String, scale: &Scale, curve: &Curve) {
    let mut values = curve.values.clone();
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let mut path = format!("M{:.1} {:.1}", scale.x(0.0), scale.y(0.0));
    for (index, value) in values.iter().enumerate() {
        let share = (index + 1) as f64 / count;
        let _ = write!(path, "H{:.1}V{:.1}", scale.x(*value), scale.y(share));
    }
    let _ = write!(path, "H{RIGHT}");
    put(out, &format!(r#"<path d="{path}" {}/>"#, curve.stroke()));
}

fn legend(out: &mut String, curves: &[Curve]) {
    let (from, to) = (RIGHT - 108.0, RIGHT - 76.0);
    for (index, curve) in curves.iter().enumerate() {
        let y = BOTTOM - 84.0 + 20.0 * index as f64;
        put(
            out,
            &format!(r#"<path d="M{from} {y}H{to}" {}/>"#, curve.stroke()),
        );
        let (x, y) = (to + 8.0, y + 4.0);
        put(
            out,
            &format!(r#"<text x="{x}" y="{y}">{}</text>"#, curve.name),
        );
    }
}

fn put(out: &mut String, element: &str) {
    out.push_str(element);
    out.push('\n');
}

impl Scale {
    fn x(&self, ms: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * ms / self.max_ms
    }

    fn y(&self, share: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * share
    }
}

impl Curve {
    fn stroke(&self) -> String {
        let dashes = match self.dashes {
            "" => String::new(),
            dashes => format!(r#" stroke-dasharray="{dashes}""#),
        };
        let (colour, width) = (self.colour, self.width);
        format!(r#"fill="none" stroke="{colour}" stroke-width="{width}"{dashes}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_steps_up_at_each_value_and_ends_at_the_top() {
        let curve = |name, values: &[f64]| Curve {
            name,
            colour: "#000",
            width: 2.0,
            dashes: "",
            values: values.to_vec(),
        };
        let curves = [curve("one", &[100.0, 50.0]), curve("two", &[200.0])];
        let text = svg("Delays", &curves, 150.0);
        let scale = Scale { max_ms: 200.0 };
        let path = format!(
            "M{:.1} {:.1}H{:.1}V{:.1}H{:.1}V{:.1}H{RIGHT}",
            scale.x(0.0),
            scale.y(0.0),
            scale.x(50.0),
            scale.y(0.5),
            scale.x(100.0),
            scale.y(1.0)
        );
        assert!(text.contains(&path), "{path} is not in {text}");
        assert_eq!(scale.y(1.0), TOP);
        for word in [
            "Delays",
            "one-way delay, ms",
            ">two<",
            ">100 %<",
            ">150 ms<",
        ] {
            assert!(text.contains(word), "{word} is not in {text}");
        }
        assert_eq!(
            text.matches("<text").count(),
            text.matches("</text>").count()
        );
    }
}
