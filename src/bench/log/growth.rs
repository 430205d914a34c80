//! How figures grow with a room's members, as one SVG (SVG 1.1) for documents. Pure.

use std::fmt::Write;

/// One figure at every size.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it is, with its unit.
    pub name: &'static str,
    /// (members, value), by members.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 220.0;
/// The field of a curve, in pixels from its panel's top left.
const LEFT: f64 = 44.0;
const RIGHT: f64 = WIDTH - 18.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = HEIGHT - 40.0;
/// Above all panels.
const TITLE: f64 = 30.0;

/// A panel for each figure, side by side, from zero in both directions.
pub fn svg(title: &str, figures: &[Figure]) -> String {
    let (width, height) = (WIDTH * figures.len() as f64, HEIGHT + TITLE);
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="11" fill="#24292f">
<title>{title}</title>
<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>
<text x="14" y="24" font-size="15" font-weight="600">{title}</text>
"##
    );
    for (at, figure) in figures.iter().enumerate() {
        let x = WIDTH * at as f64;
        let _ = writeln!(out, r#"<g transform="translate({x} {TITLE})">"#);
        panel(&mut out, figure);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, figure: &Figure) {
    let most = |of: fn(&(f64, f64)) -> f64| figure.points.iter().map(of).fold(0.0, f64::max);
    let (members, top) = (most(|point| point.0), rounded_up(most(|point| point.1)));
    let x = |value: f64| LEFT + (RIGHT - LEFT) * value / members.max(1.0);
    let y = |value: f64| BOTTOM - (BOTTOM - TOP) * value / top;
    let name = figure.name;
    let _ = writeln!(
        out,
        r#"<text x="{LEFT}" y="26" font-weight="600">{name}</text>"#
    );
    for share in [0.0, 0.5, 1.0] {
        let (value, at) = (top * share, y(top * share));
        let colour = if share == 0.0 { "#57606a" } else { "#d8dee4" };
        let _ = writeln!(
            out,
            r#"<path d="M{LEFT} {at:.1}H{RIGHT}" stroke="{colour}"/>"#
        );
        let (right, below) = (LEFT - 6.0, at + 4.0);
        let _ = writeln!(
            out,
            r#"<text x="{right}" y="{below:.1}" text-anchor="end">{value}</text>"#
        );
    }
    let mut path = String::new();
    for (at, (members, value)) in figure.points.iter().enumerate() {
        let (x, y) = (x(*members), y(*value));
        let word = if at == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{word}{x:.1} {y:.1}");
        let _ = writeln!(
            out,
            r##"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="#0969da"/>"##
        );
        let above = y - 8.0;
        let _ = writeln!(
            out,
            r#"<text x="{x:.1}" y="{above:.1}" text-anchor="middle">{value}</text>"#
        );
        let below = BOTTOM + 16.0;
        let _ = writeln!(
            out,
            r#"<text x="{x:.1}" y="{below}" text-anchor="middle">{members}</text>"#
        );
    }
    let _ = writeln!(
        out,
        r##"<path d="{path}" fill="none" stroke="#0969da" stroke-width="2"/>"##
    );
    let (middle, bottom) = ((LEFT + RIGHT) / 2.0, HEIGHT - 8.0);
    let _ = writeln!(
        out,
        r#"<text x="{middle}" y="{bottom}" text-anchor="middle">members</text>"#
    );
}

/// 1, 2 or 5 times a power of ten: the next one from a value on.
fn rounded_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= value)
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_panel_with_its_points() {
        let figure = |name, points: &[(f64, f64)]| Figure {
            name,
            points: points.to_vec(),
        };
        let text = svg(
            "Growth",
            &[
                figure("delivery p99, ms", &[(1_000.0, 20.0), (10_000.0, 200.0)]),
                figure("KB a member", &[(1_000.0, 30.0)]),
            ],
        );
        // The last point of the first is at the top right of its field.
        for word in [
            format!(
                "M{:.1} {:.1}",
                LEFT + (RIGHT - LEFT) / 10.0,
                BOTTOM - (BOTTOM - TOP) / 10.0
            ),
            format!("L{RIGHT:.1} {TOP:.1}"),
            ">KB a member<".to_owned(),
            ">10000<".to_owned(),
            "translate(240 30)".to_owned(),
        ] {
            assert!(text.contains(&word), "{word} is not in {text}");
        }
    }

    #[test]
    fn scales_end_at_a_round_number() {
        for (value, top) in [
            (0.0, 1.0),
            (0.3, 0.5),
            (1.0, 1.0),
            (12.0, 20.0),
            (51.0, 100.0),
        ] {
            assert!((rounded_up(value) - top).abs() < 1e-9, "{value}");
        }
    }
}
