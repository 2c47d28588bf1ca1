//! The table of every number.

use std::fmt::Write as _;

use dyt::Op;

use super::super::record::{Cell, Record};
use super::super::table::time;
use super::{ORDER, escape, title};

/// Every cell in a line; whoever is slower than LayerNorm is marked.
pub(super) fn table(record: &Record) -> String {
    let mut text = String::from(
        "<h2>Every number</h2>\n<p>Time is the median of a call. of copy: speed as a part of that of the copy or triad of the same bytes. \
         el/ns: elements in a nanosecond on each thread. ÷ LN: time divided by LayerNorm's; marked where it is above 1, \
         that is, where LayerNorm is the faster one.</p>\n<div class=\"scroll\"><table>\n<tr>",
    );
    text += "<th class=\"text\" colspan=\"5\"></th><th class=\"group\" colspan=\"2\">copy or triad</th>";
    for op in ORDER {
        let columns = if op == Op::LayerNorm { 3 } else { 4 };
        let _ = write!(text, "<th class=\"group\" colspan=\"{columns}\">{}</th>", title(op));
    }
    text += "</tr>\n<tr>";
    for name in ["device", "threads", "pass", "shape", "dtype"] {
        let _ = write!(text, "<th class=\"text\">{name}</th>");
    }
    text += "<th class=\"group\">time</th><th>GB/s</th>";
    for op in ORDER {
        text += "<th class=\"group\">time</th><th>of copy</th><th>el/ns</th>";
        text += if op == Op::LayerNorm { "" } else { "<th>÷ LN</th>" };
    }
    text += "</tr>\n";
    let mut before = None;
    for cell in &record.cells {
        let block = (&cell.device, cell.threads);
        text += if before == Some(block) { "<tr>" } else { "<tr class=\"first\">" };
        before = Some(block);
        text += &table_row(cell);
    }
    text += "</table></div>\n";
    for left_out in &record.left_out {
        let _ = writeln!(
            text,
            "<p class=\"machine\">Not measured, because the time was up: {}</p>",
            escape(left_out)
        );
    }
    text
}

fn table_row(cell: &Cell) -> String {
    let mut text = String::new();
    let quiet = if cell.steady { "" } else { " (not quiet)" };
    let fields = [
        escape(&cell.device),
        cell.threads.to_string(),
        format!("{}{quiet}", cell.pass),
        cell.shape(),
        escape(&cell.dtype),
    ];
    for field in fields {
        let _ = write!(text, "<td class=\"text\">{field}</td>");
    }
    if let Some(baseline) = cell.baseline() {
        let _ = write!(text, "<td class=\"first\">{}</td><td>{:.1}</td>", time(baseline.ns), baseline.gb_s);
    }
    for op in ORDER {
        let Some(timing) = cell.op(op) else { continue };
        let _ = write!(
            text,
            "<td class=\"first\">{}</td><td>{:.2}</td><td>{:.2}</td>",
            time(timing.timing.ns),
            timing.fraction,
            timing.elements_per_ns
        );
        if op != Op::LayerNorm {
            let class = if timing.loses() { " class=\"slower\"" } else { "" };
            let _ = write!(text, "<td{class}>{:.2}</td>", timing.to_layer_norm);
        }
    }
    text + "</tr>\n"
}
