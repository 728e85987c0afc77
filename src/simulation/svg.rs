//! A run as a picture: replicas, those that are ready, and the requests in flight over time.

use std::fmt::Write as _;

use super::{Run, Second};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 32.0;
/// Points that fit the width.
const MOST_POINTS: usize = 1_920;

/// Name, colour, and the value of a second as a part of the height.
type Line<'a> = (&'a str, &'a str, &'a dyn Fn(&Second) -> f64);

/// An SVG document (W3C SVG 2) without scripts and external parts.
pub fn svg(run: &Run) -> String {
    let peak = run.peak().max(1);
    let busiest = run.seconds.iter().map(|second| second.concurrency).fold(1.0, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{w}\" height=\"{h}\" fill=\"white\"/>\n",
        w = WIDTH + LEFT * 2.0,
        h = HEIGHT + TOP * 2.0,
    );
    let lines: [Line<'_>; 3] = [
        ("requests in flight", "#bbbbbb", &|second| second.concurrency / busiest),
        ("replicas", "#1f6feb", &|second| f64::from(second.replicas) / f64::from(peak)),
        ("ready replicas", "#2da44e", &|second| f64::from(second.ready) / f64::from(peak)),
    ];
    for (index, (name, colour, value)) in lines.into_iter().enumerate() {
        let points = points(run, value);
        // Writing to a String does not fail.
        let _ = writeln!(svg, "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{points}\"/>");
        let x = LEFT + 160.0 * index as f64;
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"20\" fill=\"{colour}\">{name}</text>");
    }
    let bottom = TOP + HEIGHT;
    let minutes = run.seconds.len() as f64 / 60.0;
    let _ = writeln!(svg, "<text x=\"8\" y=\"{}\">{peak}</text>", TOP + 4.0);
    let _ = writeln!(svg, "<text x=\"8\" y=\"{bottom}\">0</text>");
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\">{minutes:.0} min</text>",
        LEFT + WIDTH - 40.0,
        bottom + 20.0
    );
    svg.push_str("</svg>\n");
    svg
}

/// A step line: of the seconds that share a point, the largest value.
fn points(run: &Run, value: &dyn Fn(&Second) -> f64) -> String {
    let per_point = run.seconds.len().div_ceil(MOST_POINTS).max(1);
    let count = run.seconds.len().div_ceil(per_point).max(1) as f64;
    let mut points = String::new();
    for (at, seconds) in run.seconds.chunks(per_point).enumerate() {
        let value = seconds.iter().map(value).fold(0.0, f64::max);
        let y = TOP + HEIGHT * (1.0 - value);
        for x in [at as f64, at as f64 + 1.0] {
            let _ = write!(points, "{:.1},{y:.1} ", LEFT + WIDTH * x / count);
        }
    }
    points.trim_end().to_owned()
}
