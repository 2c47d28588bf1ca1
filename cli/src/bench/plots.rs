//! Bars as SVG, by plotters.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::{
    DrawingArea, IntoDrawingArea, PathElement, RGBColor, Rectangle, SVGBackend, Text, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, TextStyle};

/// Bars in groups, one below the other.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What the numbers are.
    pub(crate) axis: String,
    /// From top to bottom.
    pub(crate) groups: Vec<Group>,
    /// A line at a value, and what it stands for.
    pub(crate) reference: Option<(f64, String)>,
}

/// Bars that are compared with one another.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// What they have in common.
    pub(crate) label: String,
    /// From top to bottom; a number as wide as the axis allows.
    pub(crate) bars: Vec<Bar>,
}

/// One number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    /// Its length.
    pub(crate) value: f64,
    /// Red, green and blue.
    pub(crate) color: (u8, u8, u8),
}

const WIDTH: i32 = 620;
/// Left of the bars, for the labels of groups.
const LEFT: i32 = 132;
/// Right of the longest bar, for its number.
const RIGHT: i32 = 44;
/// Above the bars, for what the line stands for.
const TOP: i32 = 22;
/// Below the bars, for the axis.
const BOTTOM: i32 = 40;
const BAR: i32 = 13;
const GAP: i32 = 10;
const INK: RGBColor = RGBColor(34, 40, 49);
const FAINT: RGBColor = RGBColor(221, 225, 230);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The figure as an SVG element.
pub(crate) fn svg(figure: &Figure) -> io::Result<String> {
    let bars: usize = figure.groups.iter().map(|group| group.bars.len()).sum();
    let inner = bars as i32 * BAR + figure.groups.len() as i32 * GAP;
    let height = TOP + inner + BOTTOM;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH as u32, height as u32)).into_drawing_area();
        draw(&area, figure, TOP + inner).map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(text)
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(area: &Area<'_>, figure: &Figure, bottom: i32) -> Drawn {
    area.fill(&WHITE)?;
    let most = most(figure);
    let step = step(most);
    let x = |value: f64| LEFT + (value / most * f64::from(WIDTH - LEFT - RIGHT)).round() as i32;
    let digits = usize::from(step < 1.0) + usize::from(step < 0.1);
    for tick in (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= most * 1.0001) {
        line(area, x(tick), (TOP, bottom), &FAINT, 1)?;
        write(area, &format!("{tick:.digits$}"), (x(tick), bottom + 4), 12, (HPos::Center, VPos::Top))?;
    }
    write(area, &figure.axis, ((LEFT + WIDTH - RIGHT) / 2, bottom + 22), 13, (HPos::Center, VPos::Top))?;

    if let Some((value, name)) = &figure.reference {
        line(area, x(*value), (TOP - 4, bottom), &INK, 2)?;
        write(area, name, (x(*value), TOP - 6), 12, (HPos::Center, VPos::Bottom))?;
    }

    let mut top = TOP + GAP / 2;
    for group in &figure.groups {
        let height = group.bars.len() as i32 * BAR;
        write(area, &group.label, (LEFT - 8, top + height / 2), 13, (HPos::Right, VPos::Center))?;
        for bar in &group.bars {
            let (r, g, b) = bar.color;
            let corners = [(LEFT, top + 1), (x(bar.value), top + BAR - 1)];
            area.draw(&Rectangle::new(corners, RGBColor(r, g, b).filled()))?;
            let number = format!("{:.2}", bar.value);
            // The line of the reference must not cross it out.
            let behind = [(x(bar.value) + 1, top + 1), (x(bar.value) + 32, top + BAR - 1)];
            area.draw(&Rectangle::new(behind, WHITE.filled()))?;
            write(area, &number, (x(bar.value) + 4, top + BAR / 2), 11, (HPos::Left, VPos::Center))?;
            top += BAR;
        }
        top += GAP;
    }
    line(area, LEFT, (TOP, bottom), &INK, 1)
}

/// The value at the right end of the axis.
fn most(figure: &Figure) -> f64 {
    let bars = figure.groups.iter().flat_map(|group| &group.bars).map(|bar| bar.value);
    let reference = figure.reference.iter().map(|(value, _)| *value);
    let most = bars.chain(reference).filter(|value| value.is_finite()).fold(0.0, f64::max);
    if most > 0.0 { most * 1.02 } else { 1.0 }
}

/// A round distance of ticks, such that there are four to ten.
fn step(most: f64) -> f64 {
    let power = 10.0_f64.powf((most / 4.0).log10().floor());
    let fits = |factor: &&f64| most / (**factor * power) >= 4.0;
    [5.0, 2.0, 1.0].iter().find(fits).map_or(power, |factor| factor * power)
}

fn line(area: &Area<'_>, x: i32, (from, to): (i32, i32), color: &RGBColor, width: u32) -> Drawn {
    area.draw(&PathElement::new(vec![(x, from), (x, to)], color.stroke_width(width)))?;
    Ok(())
}

fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, (h, v): (HPos, VPos)) -> Drawn {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(&INK).pos(Pos::new(h, v));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        let bar = |value| Bar { value, color: (0, 114, 178) };
        Figure {
            axis: "part of the speed".to_owned(),
            groups: vec![
                Group { label: "a < b".to_owned(), bars: vec![bar(0.5), bar(0.25)] },
                Group { label: "c".to_owned(), bars: vec![bar(f64::NAN)] },
            ],
            reference: Some((1.0, "copy".to_owned())),
        }
    }

    #[test]
    fn a_figure_has_its_bars_labels_and_line() -> io::Result<()> {
        let svg = svg(&figure())?;
        assert!(svg.trim_start().starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert_eq!(svg.matches("fill=\"#0072B2\"").count(), 3, "{svg}");
        for text in ["a &lt; b", "0.50", "0.25", "copy", "part of the speed"] {
            assert!(svg.contains(text), "{text} is not in {svg}");
        }
        Ok(())
    }

    #[test]
    fn bars_are_as_long_as_their_numbers() -> io::Result<()> {
        let svg = svg(&figure())?;
        let widths: Vec<f64> = svg
            .split("<rect ")
            .filter(|rect| rect.contains("#0072B2"))
            .filter_map(|rect| rect.split_once(" width=\"")?.1.split_once('"')?.0.parse().ok())
            .collect();
        assert!((widths[0] / widths[1] - 2.0).abs() < 0.02, "{widths:?}");
        Ok(())
    }

    #[test]
    fn steps_are_round() {
        let steps = [1.02, 0.9, 5.0, 12.0, 0.03].map(step);
        let expected = [0.2, 0.2, 1.0, 2.0, 0.005];
        assert!(steps.iter().zip(expected).all(|(a, b)| (a / b - 1.0).abs() < 1e-9), "{steps:?}");
    }
}
