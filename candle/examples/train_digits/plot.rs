//! The loss curves, as an SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

/// The curves of one norm: a value each epoch, for each seed.
pub(crate) struct Curves {
    pub(crate) name: &'static str,
    pub(crate) train: Vec<Vec<f64>>,
    pub(crate) validation: Vec<Vec<f64>>,
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Colours that stay apart for the colour-blind.
const COLOURS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115)];
const FONT: &str = "sans-serif";

/// Training loss on the left, validation loss on the right: the mean over seeds, in the band of all of them.
pub(crate) fn draw(path: &Path, curves: &[Curves]) -> Outcome {
    let root = SVGBackend::new(path, (960, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    let panels = root.split_evenly((1, 2));
    let all = || curves.iter().flat_map(|c| c.train.iter().chain(&c.validation)).flatten().copied();
    let low = all().fold(f64::INFINITY, f64::min).max(1e-4);
    let high = all().fold(low, f64::max);
    let range = 0.8 * low..1.2 * high;
    panel(&panels[0], "training split", curves, |c| &c.train, range.clone())?;
    panel(&panels[1], "validation split", curves, |c| &c.validation, range)?;
    root.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    curves: &[Curves],
    part: fn(&Curves) -> &Vec<Vec<f64>>,
    range: core::ops::Range<f64>,
) -> Outcome {
    let epochs = curves.iter().flat_map(|c| part(c).first()).map(Vec::len).max().unwrap_or(1);
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(58)
        .build_cartesian_2d(1.0..epochs as f64, range.log_scale())?;
    chart
        .configure_mesh()
        .x_desc("epoch")
        .y_desc("cross-entropy")
        .x_label_formatter(&|epoch| format!("{epoch:.0}"))
        // Steps of a logarithmic axis are products, which end in …001.
        .y_label_formatter(&|loss| format!("{}", (loss * 1e4).round() / 1e4))
        .label_style((FONT, 13))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (curves, colour) in curves.iter().zip(COLOURS) {
        let seeds = part(curves);
        let at = |epoch: usize| seeds.iter().map(move |seed| seed[epoch]);
        let point = |epoch: usize, value: f64| (epoch as f64 + 1.0, value);
        let upper = (0..epochs).map(|e| point(e, at(e).fold(f64::NEG_INFINITY, f64::max)));
        let lower = (0..epochs).rev().map(|e| point(e, at(e).fold(f64::INFINITY, f64::min)));
        let band: Vec<_> = upper.chain(lower).collect();
        chart.draw_series([Polygon::new(band, colour.mix(0.15))])?;
        let mean = (0..epochs).map(|e| point(e, at(e).sum::<f64>() / seeds.len() as f64));
        chart
            .draw_series([PathElement::new(mean.collect::<Vec<_>>(), colour.stroke_width(2))])?
            .label(curves.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 14))
        .draw()?;
    Ok(())
}
