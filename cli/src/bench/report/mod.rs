//! One HTML file that needs no other: the answer first, then the figures, then every number.

mod numbers;

use std::fmt::Write as _;
use std::io;

use dyt::{Op, Pass};

use super::medians::{Medians, Residence, medians};
use super::plots::{Bar, Figure, Group, svg};
use super::record::{Cell, OpTiming, Record, is_slower};
use super::table::threads_of;

/// Each op beside the one that it stands in for: DyT and LayerNorm first.
const ORDER: [Op; 4] = [Op::Dyt, Op::LayerNorm, Op::Derf, Op::RmsNorm];

/// Pointwise ops are blue and norms orange, distinguishable for colour-blind readers.
const fn color(op: Op) -> (u8, u8, u8) {
    match op {
        Op::Dyt => (0, 114, 178),
        Op::Derf => (86, 180, 233),
        Op::LayerNorm => (213, 94, 0),
        Op::RmsNorm => (240, 176, 96),
    }
}

const fn title(op: Op) -> &'static str {
    match op {
        Op::Dyt => "DyT",
        Op::Derf => "Derf",
        Op::LayerNorm => "LayerNorm",
        Op::RmsNorm => "RMSNorm",
    }
}

/// The report as a page.
pub(crate) fn html(record: &Record) -> io::Result<String> {
    let mut body = header(record);
    for device in record.devices_in_full() {
        body += &tiles(record, device);
        body += &figures(record, device)?;
    }
    body += &levels(record)?;
    body += &numbers::table(record);
    body += NOTES;
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>dyt bench, {}</title>\n\
         <style>\n{}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escape(&record.date),
        include_str!("style.css"),
    ))
}

fn header(record: &Record) -> String {
    let machine = &record.machine;
    let mut text = String::from("<h1>dyt bench: DyT and Derf beside LayerNorm and RMSNorm</h1>\n");
    let cache = machine.last_level_cache.map_or_else(
        || "size of the caches unknown".to_owned(),
        |bytes| format!("largest cache {} MiB", bytes >> 20),
    );
    let _ = writeln!(
        text,
        "<p class=\"machine\">{}, {}, {cache}, {} {}<br>{}, dyt {}, {} run</p>",
        escape(&machine.processor),
        threads_of(machine.threads),
        escape(&machine.os),
        escape(&machine.architecture),
        escape(&record.date.replace(['T', 'Z'], " ").trim().replace(' ', " at ")),
        escape(&record.version),
        escape(&record.mode),
    );
    for checked in &record.devices {
        let name = escape(&checked.device);
        match &checked.failure {
            Some(failure) => {
                let reason = escape(failure);
                let _ = writeln!(
                    text,
                    "<p class=\"failure\">{name} failed its check and was not measured: {reason}</p>"
                );
            }
            None => {
                let _ = writeln!(
                    text,
                    "<p class=\"machine\">{name}: {} cases compared with f64 before measuring, largest error {:.2} of \
                     its bound</p>",
                    checked.cases, checked.worst
                );
            }
        }
    }
    text + &legend()
}

fn legend() -> String {
    let mut text = String::from("<div class=\"legend\">");
    for op in ORDER {
        let (r, g, b) = color(op);
        let _ = write!(text, "<span><i style=\"background:rgb({r},{g},{b})\"></i>{}</span>", title(op));
    }
    text + "</div>\n"
}

/// Medians as numbers to read first: on all threads in memory, on one in the caches.
fn tiles(record: &Record, device: &str) -> String {
    let all = medians(record, device);
    let mut text = format!("<h2>{}: DyT in short</h2>\n<div class=\"row\">\n", escape(device));
    for residence in [Residence::Memory, Residence::Caches] {
        for pass in Pass::ALL {
            // The widest dtype comes first, and in it the fewest threads.
            let here = || all.iter().filter(|m| m.residence == residence && m.pass == pass);
            let Some(first) = here().next() else { continue };
            let mut of_dtype = here().filter(|m| m.dtype == first.dtype);
            let tile = if residence == Residence::Memory { of_dtype.next_back() } else { Some(first) };
            text.extend(tile.map(tile_of));
        }
    }
    text + "</div>\n"
}

fn tile_of(medians: &Medians) -> String {
    let [dyt, _, layer_norm, _] = medians.by_op;
    let (place, big, unit, other) = match medians.residence {
        Residence::Memory => {
            let percent = |value: f64| format!("{:.0} %", 100.0 * value);
            let unit = format!("of the speed of a {}", baseline_name(medians.pass));
            ("tensors in memory", percent(dyt), unit, percent(layer_norm))
        }
        Residence::Caches => {
            let unit = "elements in a nanosecond on each thread".to_owned();
            ("tensors in the caches", format!("{dyt:.1}"), unit, format!("{layer_norm:.1}"))
        }
    };
    let ratio = medians.dyt_to_layer_norm;
    let (class, verdict) = if is_slower(ratio) { ("slower", "slower") } else { ("faster", "not slower") };
    format!(
        "<div class=\"tile\"><h3>{}, {}, {}</h3><small>{place}</small><b>DyT {big}</b><small>{unit}; LayerNorm \
         {other}</small><small class=\"{class}\">DyT needs {ratio:.2} × LayerNorm's time: {verdict}</small></div>\n",
        capital(medians.pass),
        medians.dtype,
        threads_of(medians.threads),
    )
}

const fn baseline_name(pass: Pass) -> &'static str {
    match pass {
        Pass::Forward => "copy",
        Pass::Backward => "triad",
    }
}

const fn capital(pass: Pass) -> &'static str {
    match pass {
        Pass::Forward => "Forward",
        Pass::Backward => "Backward",
    }
}

/// For each place and number of threads: the forward, and beside it the backward.
fn figures(record: &Record, device: &str) -> io::Result<String> {
    let mut text = String::new();
    for residence in [Residence::Memory, Residence::Caches] {
        let (heading, explanation) = match residence {
            Residence::Memory => (
                "Tensors in memory: how close to a copy",
                "A copy (forward) or a triad of two reads and one write (backward) moves the same bytes and computes \
                 nothing. 1 is the speed of this machine's memory; longer bars are better.",
            ),
            Residence::Caches => (
                "Tensors in the caches: how fast the arithmetic is",
                "Elements in a nanosecond on each thread; longer bars are better.",
            ),
        };
        let mut rows = String::new();
        for threads in record.threads() {
            let mut row = String::new();
            for pass in Pass::ALL {
                let cells = record.cells.iter().filter(|cell| {
                    cell.device == device
                        && cell.threads == threads
                        && cell.pass == pass.name()
                        && cell.in_memory(&record.machine) == (residence == Residence::Memory)
                });
                row += &figure(&cells.collect::<Vec<_>>(), residence, pass, threads)?;
            }
            if !row.is_empty() {
                let _ = writeln!(rows, "<div class=\"row\">\n{row}</div>");
            }
        }
        if !rows.is_empty() {
            let device = escape(device);
            let _ =
                writeln!(text, "<h2>{heading} <small>({device})</small></h2>\n<p>{explanation}</p>\n{rows}");
        }
    }
    Ok(text)
}

fn figure(cells: &[&Cell], residence: Residence, pass: Pass, threads: usize) -> io::Result<String> {
    if cells.is_empty() {
        return Ok(String::new());
    }
    let value = |timing: &OpTiming| match residence {
        Residence::Memory => timing.fraction,
        Residence::Caches => timing.elements_per_ns,
    };
    let name = baseline_name(pass);
    let figure = Figure {
        axis: match residence {
            Residence::Memory => format!("part of the speed of a {name}"),
            Residence::Caches => "elements in a nanosecond on each thread".to_owned(),
        },
        groups: cells
            .iter()
            .map(|cell| group(cell, &format!("{} {}", cell.shape(), cell.dtype), value))
            .collect(),
        reference: (residence == Residence::Memory).then(|| (1.0, name.to_owned())),
    };
    let (title, threads) = (capital(pass), threads_of(threads));
    Ok(format!("<div class=\"figure\"><h3>{title}, {threads}</h3>\n{}</div>\n", svg(&figure)?))
}

fn group(cell: &Cell, label: &str, value: impl Fn(&OpTiming) -> f64) -> Group {
    let bar = |op: Op| cell.op(op).map(|timing| Bar { value: value(timing), color: color(op) });
    Group { label: label.to_owned(), bars: ORDER.into_iter().filter_map(bar).collect() }
}

/// The devices beside one another, at the points in the caches that all of them were measured at on one thread.
fn levels(record: &Record) -> io::Result<String> {
    let measured: Vec<&str> =
        record.devices.iter().filter(|d| d.failure.is_none()).map(|d| d.device.as_str()).collect();
    if measured.len() < 2 {
        return Ok(String::new());
    }
    let mut row = String::new();
    for pass in Pass::ALL {
        let here =
            |cell: &&Cell| cell.threads == 1 && cell.pass == pass.name() && !cell.in_memory(&record.machine);
        let cells: Vec<&Cell> = record.cells.iter().filter(here).collect();
        let same = |a: &Cell, b: &Cell| (a.rows, a.cols, &a.dtype) == (b.rows, b.cols, &b.dtype);
        let everywhere = |cell: &&&Cell| {
            measured
                .iter()
                .all(|device| cells.iter().any(|other| other.device == *device && same(cell, other)))
        };
        let mut shared: Vec<&&Cell> = cells.iter().filter(everywhere).collect();
        shared.sort_by(|a, b| b.dtype.len().cmp(&a.dtype.len()).reverse());
        let level = |cell: &Cell| cell.device.strip_prefix("cpu:").unwrap_or(&cell.device).to_owned();
        let groups: Vec<Group> = shared
            .iter()
            .map(|cell| {
                group(cell, &format!("{} {}", level(cell), cell.dtype), |timing| timing.elements_per_ns)
            })
            .collect();
        if let Some(cell) = shared.first() {
            let axis = "elements in a nanosecond".to_owned();
            let figure = Figure { axis, groups, reference: None };
            let (pass, shape) = (capital(pass), cell.shape());
            let _ = write!(
                row,
                "<div class=\"figure\"><h3>{pass}, {shape}, 1 thread</h3>\n{}</div>\n",
                svg(&figure)?
            );
        }
    }
    if row.is_empty() {
        return Ok(row);
    }
    Ok(format!("<h2>Devices of this machine</h2>\n<div class=\"row\">\n{row}</div>\n"))
}

const NOTES: &str = "<h2>How it was measured</h2>
<p>Every op and every baseline has its turn in every round, on the same warm buffers with random values, never zeros; \
the numbers are medians of the rounds. Rounds in which the copy was more than 15 % off its median are left out. A \
streaming copy (nt_copy) writes past the caches, a plain one does not; ops are compared with whichever was faster. \
Only ratios within one run are worth quoting: absolute times depend on the machine and on what else runs there.</p>
";

/// Text for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn a_report_has_a_figure_for_each_pass_place_and_number_of_threads() -> io::Result<()> {
        let page = html(&record())?;
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        assert_eq!(page.matches("<svg").count(), 2 * 2 * 2);
        assert_eq!(page.matches("</svg>").count(), 2 * 2 * 2);
        assert_eq!(page.matches("class=\"tile\"").count(), 4);
        assert_eq!(page.matches("<tr").count(), 2 + record().cells.len());
        Ok(())
    }

    #[test]
    fn a_report_needs_no_other_file_and_escapes_what_it_shows() -> io::Result<()> {
        let page = html(&record())?;
        assert!(page.contains("Test &amp; Sons &lt;1&gt;") && !page.contains("Sons <1>"));
        for outside in ["src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        Ok(())
    }

    #[test]
    fn refused_devices_and_slower_ops_are_marked() -> io::Result<()> {
        let mut record = record();
        let slower = |page: &str| page.matches("<td class=\"slower\"").count();
        let page = html(&record)?;
        assert_eq!(slower(&page), 0);
        assert!(page.contains("cpu:avx2 failed its check") && page.contains("y: 3 &gt; 1"));
        assert!(page.contains("cpu:portable 64×768 f32, 1 thread"));
        record.cells[0].ops[0].to_layer_norm = 1.2;
        record.cells[3].ops[3].to_layer_norm = 1.1;
        assert_eq!(slower(&html(&record)?), 2);
        Ok(())
    }

    #[test]
    fn an_empty_record_is_a_page_too() -> io::Result<()> {
        let mut record = record();
        record.cells.clear();
        let page = html(&record)?;
        assert!(page.contains("</html>") && !page.contains("<svg") && !page.contains("NaN"));
        Ok(())
    }
}
