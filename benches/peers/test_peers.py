"""What needs neither numpy nor a peer: `python3 -m unittest discover benches/peers`."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]

import cells  # noqa: E402
import cpu_grid  # noqa: E402
import figure  # noqa: E402
import files  # noqa: E402
import machine  # noqa: E402
import own  # noqa: E402
import report  # noqa: E402
import rust  # noqa: E402
import session  # noqa: E402
import stats  # noqa: E402

# Bytes of a record, as benches/record/README.md has it.
LIMIT = 64 << 10


def cell(op="dyt", pass_="forward", rows=2, cols=500, dtype="f32", rejected=0, **times):
    contenders = {name: [us, us / 2, us * 2] if us else "cannot: no backward" for name, us in times.items()}
    return {
        "op": op, "pass": pass_, "rows": rows, "cols": cols, "dtype": dtype, "rejected": rejected,
        "contenders": contenders,
    }  # fmt: skip


def record(*found):
    return {
        "kind": "cpu", "date": "2026-01-02T03:04:05Z", "processor": "a <processor>", "device": "cpu:avx2",
        "threads": 1, "versions": {"torch": "9"}, "absent": {"jax": "ImportError: no jax"}, "left_out": [],
        "cells": list(found),
    }  # fmt: skip


class Rounds(unittest.TestCase):
    def test_rounds_with_a_slow_or_a_fast_baseline_are_rejected(self):
        self.assertEqual(stats.steady_rounds([100, 103, 140, 98, 60]), [True, True, False, True, False])

    def test_a_machine_that_is_never_quiet_is_recognized(self):
        for baseline in ([100, 150, 200, 250, 300], [100, 100], []):
            self.assertIsNone(stats.steady_rounds(baseline))

    def test_sampling_ends_once_it_is_enough_but_not_before_the_fewest_rounds(self):
        calls = []
        found = stats.sample({"a": lambda: calls.append(1) or 7}, 9, enough=lambda: True)
        self.assertEqual((found, len(calls)), ({"a": [7] * stats.FEWEST}, stats.FEWEST))
        self.assertEqual(len(stats.sample({"a": lambda: 7}, 9, enough=lambda: False)["a"]), 9)
        with self.assertRaises(ValueError):
            stats.sample({}, 0)

    def test_calls_fill_a_batch(self):
        found = [stats.calls_for(1000, once) for once in (300, 1000, 5000, 0)]
        self.assertEqual(found, [4, 1, 1, 1_000_000])


class Grid(unittest.TestCase):
    def test_every_cell_once_and_groups_share_their_tensors(self):
        groups = cpu_grid.groups()
        every = [c for group in groups for c in group]
        self.assertEqual(len(set(every)), len(every))
        self.assertEqual(len(every), 12 * 2 * 4 * 3)
        for group in groups:
            self.assertEqual({c.pass_ for c in group}, set(cells.TENSORS))
            self.assertEqual(len({(c.op, c.rows, c.cols, c.dtype) for c in group}), 1)

    def test_bytes_of_both_passes_are_those_of_each(self):
        sizes = {c.pass_: c.bytes for c in cpu_grid.groups(True, ["dyt"], ["bf16"])[0]}
        self.assertEqual(sizes["forward+backward"], sizes["forward"] + sizes["backward"])


class Machine(unittest.TestCase):
    def test_processors(self):
        text = "vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nmodel\t: 9\n"
        self.assertEqual(machine.processor(text), ("AMD EPYC (family 26, model 2)", "amd-f26-m2"))
        self.assertTrue(machine.processor("CPU part : 0xd0c")[0].startswith("unknown"))


class Report(unittest.TestCase):
    def test_the_fastest_peer_counts(self):
        self.assertEqual(report.ratio(cell(dyt=100, eager=300, jax=250, onnxruntime=None)), (2.5, "jax"))
        self.assertIsNone(report.ratio(cell(dyt=100, onnxruntime=None)))
        self.assertIsNone(report.ratio(cell(dyt=None, jax=5)))

    def test_the_table_has_rates_and_reasons(self):
        lines = report.table(record(cell(dyt=0.1, eager=0.3, onnxruntime=None, rejected=None))).splitlines()
        self.assertRegex(lines[2], r"^dyt forward 2x500 f32 +dyt +0\.10 +10\.00 +- +the machine was never quiet$")
        self.assertRegex(lines[3], r" 3\.33 +3\.00x ")
        self.assertRegex(lines[4], r" - +- +- +cannot: no backward$")
        self.assertEqual(lines[5], "absent: jax: ImportError: no jax")

    def test_losing_cells_are_shown_in_bold_and_missing_ones_as_such(self):
        found = record(cell(dyt=100, jax=250), cell(rows=4, dyt=100, jax=50, rejected=None), cell("derf", dyt=1))
        lines = report.cells_table(found)
        self.assertEqual(lines[0], "| op | pass | dtype | 2 × 500 | 4 × 500 |")
        self.assertEqual(lines[2:], ["| DyT | forward | f32 | 2.50 jax | **0.50 jax** (?) |", "| Derf | forward | f32 | – | – |"])
        self.assertEqual(report.peers_table(found)[2], "| DyT | forward | f32 | 1.5 (0.5) |")

    def test_the_headline_counts_the_cells_that_lose(self):
        line = report.headline(record(cell(dyt=100, jax=250), cell(rows=4, dyt=100, jax=50)))
        self.assertIn("DyT 1.5 and –", line)
        self.assertTrue(line.endswith("A peer is faster in 1 of 2 cells of the run."))

    def test_text_between_marks_is_replaced_and_nothing_else(self):
        once = report.between("a\n<!-- peers: by -->\nb\n", "peers", ["x"])
        self.assertEqual(once, "a\n<!-- peers: by -->\nx\n<!-- /peers -->\nb\n")
        self.assertEqual(report.between(once, "peers", ["y"]), once.replace("x", "y"))
        with self.assertRaises(ValueError):
            report.between("a\n", "peers", [])

    def test_the_documents_have_the_marks(self):
        for page in ("README.md", "docs/performance.md"):
            text = (report.ROOT / page).read_text(encoding="utf-8")
            self.assertIn("\nx\n<!-- /peers -->\n", report.between(text, "peers", ["x"]))

    def test_the_tables_of_our_own_speed(self):
        place = {"device": "cpu:avx2", "threads": 1, "dtype": "f32", "steady": True}
        ops = {"dyt": [300, 1, 1], "derf": [400, 1, 1], "layer_norm": [200, 1, 1], "rms_norm": [100, 1, 1]}
        near = {**place, "pass": "forward", "rows": 3, "cols": 100, "bytes": 2400, "baselines": {"nt_copy": [90, 1, 1]}}
        far = {**near, "pass": "backward", "bytes": 1 << 30, "steady": False, "baselines": {"nt_triad": [90, 1, 1]}}
        found = {
            "date": "2026-01-02T03:04:05Z", "machine": {"processor": "a processor"},
            "devices": [{"device": "cpu:avx2", "in_full": True}], "cells": [{**near, "ops": ops}, {**far, "ops": ops}],
        }  # fmt: skip
        lines = own.section(found, "r.json")
        self.assertIn("| 3 × 100 | f32 | 1.0 | 0.75 | 1.5 | 3.0 | 1.50 |", lines)
        self.assertIn("| 3 × 100 | f32 | 0.30 (?) | 0.23 | 0.45 | 0.90 | 1.50 |", lines)
        self.assertIn("### Backward, `avx2`", lines)
        self.assertIn("\nx\n<!-- /results -->\n", report.between(own.PAGE.read_text(encoding="utf-8"), "results", ["x"]))

    def test_a_section_names_its_record_versions_and_reasons(self):
        text = "\n".join(report.section(record(cell(dyt=1, jax=2, onnxruntime=None)), pathlib.Path("r.json")))
        for part in ("[r.json](../benches/record/r.json)", "torch 9", "one thread", "no backward", "ImportError"):
            self.assertIn(part, text)

    def test_of_results_that_are_off_the_largest_is_told(self):
        found = []
        for dtype, off in (("f32", "2.0e-01"), ("bf16", "1.0e+00"), ("bf16", "9.0e-01")):
            found.append(cell(dtype=dtype))
            found[-1]["contenders"] = {"jax": f"not timed: dx is off by {off}"}
        self.assertEqual(
            report.reasons({"cells": found, "absent": {"rten": "gone"}}),
            ["- jax, DyT forward f32 bf16: not timed: dx is off by 1.0e+00", "- rten, everything: gone"],
        )

    def test_the_newest_record_is_in_force(self):
        with tempfile.TemporaryDirectory() as folder:
            names = [f"2026-0{i}-01-x-peers-cpu-1t.json" for i in (1, 3, 2)] + ["2026-09-01-x-peers-cpu-2t.json"]
            for name in names:
                (pathlib.Path(folder) / name).write_text(json.dumps(record()), encoding="utf-8")
            self.assertEqual(report.newest("cpu", 1, pathlib.Path(folder)).name, names[1])
            self.assertIsNone(report.newest("rust", 1, pathlib.Path(folder)))


class Records(unittest.TestCase):
    def test_the_whole_grid_has_at_most_64_kb(self):
        timing = [1234.5, 1234.4, 1234.6]
        names = ("dyt", "eager", "compile", "jax", "onnxruntime")
        every = [
            {"op": c.op, "pass": c.pass_, "rows": c.rows, "cols": c.cols, "dtype": c.dtype, "rounds": 21, "rejected": 10,
             "copy": timing, "contenders": {name: timing for name in names}}
            for group in cpu_grid.groups() for c in group
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "record.json"
            files.write({**record(), "cells": every}, path)
            self.assertLess(path.stat().st_size, LIMIT)

    def test_no_record_has_more_than_64_kb(self):
        for path in (report.ROOT / "benches" / "record").iterdir():
            self.assertLessEqual(path.stat().st_size, LIMIT, path.name)


class Figure(unittest.TestCase):
    def test_a_dot_for_each_shape_on_the_right_side_of_one(self):
        dots = [(4.0, "a <b>", "jax"), (0.5, "c", "eager")]
        text = figure.svg({("dyt", "forward", "f32"): dots, ("derf", "backward", "bf16"): dots[:1]}, "s & t")
        root = ElementTree.fromstring(text)
        circles = [e for e in root.iter() if e.tag.endswith("circle")]
        self.assertEqual([c.get("class") for c in circles], ["wins", "loses", "wins"])
        one = [float(e.get("x1")) for e in root.iter() if e.get("class") == "one"]
        self.assertTrue(float(circles[1].get("cx")) < one[0] < float(circles[0].get("cx")))
        self.assertIn("prefers-color-scheme: dark", text)

    def test_the_axis_holds_every_ratio_and_one(self):
        self.assertEqual(figure.scale({1: [(0.3, "", "")], 2: [(5.0, "", "")]}), (-2, 3))
        self.assertEqual(figure.scale({}), (0, 1))


class Rust(unittest.TestCase):
    ASKED = cells.Cell("rms_norm", "forward", 2, 500, "f32")

    def test_a_request_has_all_that_the_binary_is_to_know(self):
        chosen = session.options(session.parser("a"), ["--quick", "--seed", "7"])
        asked = json.loads(rust.request([self.ASKED], chosen))
        self.assertEqual((asked["op"], asked["rows"], asked["passes"], asked["seed"]), ("rms_norm", 2, ["forward"], 7))
        self.assertEqual((asked["eps"], asked["close"], asked["rounds"]), (1e-6, 1e-3, cpu_grid.ROUNDS[True]))

    def test_an_answer_is_summed_up_over_the_steady_rounds(self):
        contenders = {"dyt": {"error": None, "ns": [5, 6, 900, 7]}, "rten": {"error": "cannot: it", "ns": []}}
        line = json.dumps({"pass": "forward", "copy": [10, 10, 20, 10], "contenders": contenders})
        found = rust.answer(self.ASKED, line)
        self.assertEqual((found["rounds"], found["rejected"], found["copy"]), (4, 1, [0.01, 0.01, 0.01]))
        self.assertEqual(found["contenders"], {"dyt": [0.006, 0.005, 0.007], "rten": "cannot: it"})

    def test_a_cell_of_a_restless_machine_says_so(self):
        found = session.cell_record(self.ASKED, [100, 150, 200, 250, 300], {"dyt": None}, {"dyt": [1, 2, 3, 4, 5]})
        self.assertEqual((found["rejected"], found["contenders"]["dyt"][0]), (None, 0.003))

    def test_an_answer_to_something_else_is_refused(self):
        with self.assertRaises(ValueError):
            rust.answer(self.ASKED, '{"pass": "backward"}')
        with self.assertRaises(RuntimeError):
            rust.answer(self.ASKED, "")


class Command(unittest.TestCase):
    def test_listing_needs_no_package(self):
        command = [sys.executable, HERE / "cpu.py", "--library", "x", "--list", "--quick", "--ops", "dyt", "--dtypes", "f32"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        self.assertEqual(said[0], "dyt forward 64x768 f32")
        self.assertEqual(len(said), 6)

    def test_wrong_options_are_refused(self):
        command = [sys.executable, HERE / "cpu.py", "--library", "x", "--ops", "batch_norm"]
        said = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(said.returncode, 2)
        self.assertIn("no op is called batch_norm", said.stderr)


if __name__ == "__main__":
    unittest.main()
