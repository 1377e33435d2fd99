//! Series as lines of characters over time.

use std::io::{self, Write};

use chrono::{DateTime, Utc};
use rgb::RGB8;
use textplots::{
    Chart, ColorPlot, LabelBuilder, LabelFormat, Plot, Shape, TickDisplay, TickDisplayBuilder,
};

use super::answer::{Answer, Series};

/// Series that are drawn; more could not be told apart.
const DRAWN: usize = 8;
/// Colours that are told apart on dark and on light terminals.
const COLOURS: [RGB8; DRAWN] = [
    RGB8::new(0x4c, 0x9a, 0xe8),
    RGB8::new(0xe8, 0x8e, 0x2e),
    RGB8::new(0x3f, 0xb2, 0x6f),
    RGB8::new(0xd6, 0x5c, 0x8e),
    RGB8::new(0x9a, 0x7f, 0xd6),
    RGB8::new(0xb8, 0xa2, 0x2c),
    RGB8::new(0x35, 0xb0, 0xb8),
    RGB8::new(0xb5, 0x6b, 0x4b),
];
/// Dots from top to bottom: 20 lines.
const HEIGHT: u32 = 80;
/// Columns that the labels of the axis take.
const MARGIN: usize = 12;
/// Fewest dots from left to right.
const LEAST_WIDTH: u32 = 32;

/// Prints a graph of `width` columns, in colours if they are wanted.
pub fn print(answer: &Answer, width: usize, coloured: bool, out: &mut dyn Write) -> io::Result<()> {
    let drawn: Vec<Line> = answer
        .series
        .iter()
        .filter_map(Line::of)
        .take(DRAWN)
        .collect();
    let times = || {
        drawn
            .iter()
            .flat_map(|line| line.points.iter().map(|(time, _)| *time))
    };
    let (Some(first), Some(last)) = (
        times().min_by(f64::total_cmp),
        times().max_by(f64::total_cmp),
    ) else {
        return writeln!(out, "no numbers to draw");
    };
    // Single precision is enough for what is counted from the first time.
    let shapes: Vec<Vec<(f32, f32)>> = drawn
        .iter()
        .map(|line| {
            let points = line.points.iter();
            points
                .map(|(time, value)| ((time - first) as f32, *value as f32))
                .collect()
        })
        .collect();
    let shapes: Vec<Shape> = shapes.iter().map(|points| Shape::Lines(points)).collect();
    let dots = (2 * width.saturating_sub(MARGIN)) as u32;
    let span = ((last - first) as f32).max(1.0);
    let mut chart = Chart::new(dots.max(LEAST_WIDTH), HEIGHT, 0.0, span);
    let is_long = last - first > 86_400.0;
    let label = move |seconds: f32| shown_time(first + f64::from(seconds), is_long);
    let mut chart = shapes
        .iter()
        .zip(COLOURS)
        .fold(&mut chart, |chart, (shape, colour)| match coloured {
            true => chart.linecolorplot(shape, colour),
            false => chart.lineplot(shape),
        });
    chart = chart
        .x_label_format(LabelFormat::Custom(Box::new(label)))
        .y_label_format(LabelFormat::Custom(Box::new(shown_value)))
        .y_tick_display(TickDisplay::Sparse);
    chart.axis();
    chart.figures();
    for line in chart.to_string().lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    for (line, colour) in drawn.iter().zip(COLOURS) {
        let mark = match coloured {
            true => format!("\x1b[38;2;{};{};{}m━\x1b[0m", colour.r, colour.g, colour.b),
            false => "-".to_owned(),
        };
        writeln!(out, "{mark} {}", line.name)?;
    }
    let more = answer.series.len() - drawn.len();
    if more > 0 {
        writeln!(out, "and {more} series that are not drawn")?;
    }
    Ok(())
}

/// A series and its numbers.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Line {
    /// The line of a series; none if it has no number that can be drawn.
    fn of(series: &Series) -> Option<Self> {
        let points: Vec<(f64, f64)> = series
            .samples
            .iter()
            .filter_map(|(time, value)| Some((*time, value.parse().ok()?)))
            .filter(|(_, value): &(f64, f64)| value.is_finite())
            .collect();
        (!points.is_empty()).then(|| Self {
            name: series.shown(),
            points,
        })
    }
}

/// The time of day, with the day if there are several.
fn shown_time(seconds: f64, with_day: bool) -> String {
    let time =
        DateTime::<Utc>::from_timestamp_millis((seconds * 1000.0) as i64).unwrap_or_default();
    let form = if with_day { "%m-%d %H:%M" } else { "%H:%M:%S" };
    time.format(form).to_string()
}

fn shown_value(value: f32) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".to_owned(),
        _ if !(1e-3..1e6).contains(&size) => format!("{value:.2e}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(data: &str, coloured: bool) -> String {
        let text =
            format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{data}]}}}}"#);
        let mut out = Vec::new();
        print(&Answer::read(&text).unwrap(), 60, coloured, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn series_are_lines_with_their_names() {
        let up = r#"{"metric":{"__name__":"up"},"values":[[1767225600,"0"],[1767225660,"1"]]}"#;
        let text = drawn(up, false);
        assert!(text.contains("- up\n"), "{text}");
        assert!(
            text.contains("00:00:00") && text.contains("00:01:00"),
            "{text}"
        );
        assert!(
            text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 70),
            "{text}"
        );
        assert!(drawn(up, true).contains('\x1b'));
    }

    #[test]
    fn what_is_no_number_is_not_drawn() {
        assert_eq!(drawn("", false), "no numbers to draw\n");
        let none = r#"{"metric":{},"values":[[1,"NaN"],[2,"+Inf"]]}"#;
        assert_eq!(drawn(none, false), "no numbers to draw\n");
        let one = r#"{"metric":{"a":"b"},"values":[[1,"7"]]}"#;
        assert!(drawn(one, false).contains("- {a=\"b\"}"));
        let many: Vec<String> = (0..10).map(|i| one.replace('b', &i.to_string())).collect();
        assert!(drawn(&many.join(","), false).contains("and 2 series"));
    }
}
