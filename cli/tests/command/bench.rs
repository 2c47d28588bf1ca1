//! `dyt bench` from beginning to end, on a tensor so small that it takes no time.

use crate::support::{Folder, Outcome, dyt};

#[test]
fn a_selection_gives_a_report_and_its_numbers() -> Outcome {
    let folder = Folder::new()?;
    let (json, html) = (folder.file("n.json"), folder.file("r.html"));
    let what = ["bench", "--shape", "4x64", "--dtype", "f32", "--device", "cpu:portable", "--threads", "1"];
    let ran = dyt(&[&what[..], &["--json", &json, "--html", &html]].concat())?.succeeded();
    assert!(ran.stdout.contains("cpu:portable") && ran.stdout.contains("4×64"), "{ran:?}");
    assert_eq!(folder.names()?, ["n.json", "r.html"]);

    let record: serde_json::Value = serde_json::from_slice(&folder.read("n.json")?)?;
    assert_eq!(record["mode"], "selection");
    assert_eq!(record["left_out"], serde_json::json!([]));
    assert_eq!(record["devices"][0]["device"], "cpu:portable");
    assert!(record["devices"][0]["failure"].is_null() && record["devices"][0]["cases"].as_u64() > Some(12));
    let cells = record["cells"].as_array().ok_or("no cells")?;
    let passes: Vec<_> = cells.iter().filter_map(|cell| cell["pass"].as_str()).collect();
    assert_eq!(passes, ["forward", "backward"]);
    for cell in cells {
        assert_eq!((&cell["rows"], &cell["cols"], &cell["dtype"]), (&4.into(), &64.into(), &"f32".into()));
        let ops = cell["ops"].as_object().ok_or("no ops")?;
        assert_eq!(ops.len(), dyt::Op::ALL.len());
        assert!(ops.values().all(|times| times[0].as_f64().is_some_and(|ns| ns > 0.0)), "{cell}");
    }
    let page = String::from_utf8(folder.read("r.html")?)?;
    assert!(page.contains("<svg") && page.contains("4×64") && page.trim_end().ends_with("</html>"));
    Ok(())
}

#[test]
fn one_file_for_report_and_numbers_is_refused() -> Outcome {
    let folder = Folder::new()?;
    let (json, html) = (folder.file("both"), folder.file("./both"));
    dyt(&["bench", "--json", &json, "--html", &html])?.refused(2, "the same file");
    assert!(folder.names()?.is_empty());
    Ok(())
}

#[test]
fn calls_with_more_than_an_op_are_measured() -> Outcome {
    let folder = Folder::new()?;
    let what = ["bench", "--shape", "16x64", "--dtype", "bf16", "--device", "cpu:portable", "--threads", "1"];
    for (form, passes) in [("heads", 2), ("param_rows", 2), ("residual", 2), ("quant_dynamic", 1)] {
        let (json, html) = (folder.file("n.json"), folder.file("r.html"));
        dyt(&[&what[..], &["--with", form, "--json", &json, "--html", &html]].concat())?.succeeded();
        let record: serde_json::Value = serde_json::from_slice(&folder.read("n.json")?)?;
        assert_eq!(record["mode"], format!("selection with {form}"));
        assert_eq!(record["cells"].as_array().map(Vec::len), Some(passes), "{form}");
    }
    dyt(&["bench", "--with", "bias"])?.refused(2, "a form is one of plain, residual");
    Ok(())
}
