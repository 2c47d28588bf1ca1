"""What needs no GPU and no torch: `python3 -m unittest discover benches/gpu`."""

import ctypes
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]

import abi  # noqa: E402
import cells  # noqa: E402
import files  # noqa: E402
import grid  # noqa: E402
import peers  # noqa: E402
import report  # noqa: E402
import stats  # noqa: E402

HEADER = HERE.parents[1] / "capi" / "include" / "dyt.h"
LIBRARY = pathlib.Path(os.environ.get("DYT_LIBRARY", HERE / "dist" / "libdyt.so"))


def contender(device, graph="no graph: it waits"):
    return [[device, 1.5, 1e6], [3.0, 2.5, 3.5], graph]


def record():
    """A run of two cells, 8192x4096 in f32, with times that are easy to divide."""
    shape = {"pass": "forward", "rows": 8192, "cols": 4096, "dtype": "f32", "copy": [90.0, 89.0, 91.0]}
    wrong = "not timed: y is off by 1.0e+00"
    return {
        "gpu": "a GPU", "driver": "1.2", "torch": "2.0", "date": "2026-01-01T00:00:00Z", "absent": {},
        "cells": [
            {**shape, "op": "dyt",
             "contenders": {"dyt": contender(100.0, [99.0] * 3), "eager": contender(250.0), "liger": wrong}},
            {**shape, "op": "rms_norm", "contenders": {"dyt": contender(125.0)}},
        ],
    }  # fmt: skip


class Structs(unittest.TestCase):
    def test_fields_are_those_of_the_header_in_their_order_and_type(self):
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", HEADER.read_text(encoding="utf-8"), flags=re.S)
        types = {"uint32_t": ctypes.c_uint32, "int64_t": ctypes.c_int64, "float": ctypes.c_float}
        for name, struct in abi.STRUCTS.items():
            body = re.search(rf"typedef struct {name} \{{(.*?)\}} {name};", text, re.S)
            self.assertIsNotNone(body, name)
            fields = re.findall(r"(\w[\w ]*?)\s*(\*?)\s*(\w+);", body[1])
            expected = [(n, ctypes.c_void_p if star else types[kind]) for kind, star, n in fields]
            self.assertEqual(struct._fields_, expected, name)

    @unittest.skipUnless(shutil.which("cc"), "no C compiler")
    def test_sizes_and_offsets_are_those_of_the_compiler(self):
        lines = []
        for name, struct in abi.STRUCTS.items():
            lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
            lines += [f'printf("{name}.{f} %zu\\n", offsetof({name}, {f}));' for f, _ in struct._fields_]
        code = f'#include <stdio.h>\n#include "{HEADER}"\nint main(void) {{ {" ".join(lines)} return 0; }}\n'
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder) / "sizes"
            subprocess.run(["cc", "-x", "c", "-", "-o", program], input=code, text=True, check=True)
            said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
        found = dict(line.split() for line in said.splitlines())
        for name, struct in abi.STRUCTS.items():
            self.assertEqual(int(found[name]), ctypes.sizeof(struct))
            for field, _ in struct._fields_:
                self.assertEqual(int(found[f"{name}.{field}"]), getattr(struct, field).offset, field)

    def test_numbers_are_those_of_the_header(self):
        text = HEADER.read_text(encoding="utf-8")
        for prefix, numbers in (("DYT_", abi.DTYPES), ("DYT_OP_", abi.OPS), ("DYT_", abi.PASSES)):
            for name, value in numbers.items():
                self.assertRegex(text, rf"\b{prefix}{name.upper()} = {value},")
        self.assertIn(f"#define DYT_ABI_VERSION {abi.ABI_VERSION}\n", text)

    def test_a_struct_knows_its_size_and_is_zero_elsewhere(self):
        args = abi.sized(abi.ForwardArgs, x=16)
        self.assertEqual((args.size, args.reserved, args.x, args.rstd), (ctypes.sizeof(args), 0, 16, None))


@unittest.skipUnless(LIBRARY.is_file(), "no libdyt.so: pack.sh makes it, and DYT_LIBRARY names another")
class Library(unittest.TestCase):
    def setUp(self):
        self.device = abi.Device(LIBRARY, "cpu")
        self.addCleanup(self.device.close)

    def call(self, problem, struct, arrays, pass_):
        size = self.device.workspace_size(problem, pass_)
        space = ctypes.create_string_buffer(max(size, 1))
        args = abi.sized(struct, **{name: ctypes.addressof(array) for name, array in arrays.items()})
        self.device.call(problem, args, ctypes.addressof(space), size)()

    def test_forward_and_backward_on_the_cpu(self):
        self.assertRegex(self.device.name(), "^cpu:")
        problem = abi.problem("dyt", "f32", 1, 3, 0.0)
        row, one = ctypes.c_float * 3, ctypes.c_float * 1
        x, dy, alpha, gamma, beta = row(-1.5, 0.25, 3), row(1, -2, 3), one(0.5), row(1, 2, 3), row(0, 1, -1)
        y = row(*[math.nan] * 3)
        arrays = {"x": x, "alpha": alpha, "gamma": gamma, "beta": beta, "y": y}
        self.call(problem, abi.ForwardArgs, arrays, "forward")
        for i in range(3):
            self.assertAlmostEqual(y[i], gamma[i] * math.tanh(x[i] / 2) + beta[i], places=5)
        dx, dalpha, dgamma, dbeta = row(*[math.nan] * 3), one(math.nan), row(), row()
        arrays = {"dy": dy, "x": x, "alpha": alpha, "gamma": gamma}
        arrays |= {"dx": dx, "dalpha": dalpha, "dgamma": dgamma, "dbeta": dbeta}
        self.call(problem, abi.BackwardArgs, arrays, "backward")
        slope = [dy[i] * gamma[i] * (1 - math.tanh(x[i] / 2) ** 2) for i in range(3)]
        self.assertAlmostEqual(dalpha[0], sum(slope[i] * x[i] for i in range(3)), places=4)
        for i in range(3):
            self.assertAlmostEqual(dx[i], slope[i] / 2, places=5)
            self.assertAlmostEqual(dgamma[i], dy[i] * math.tanh(x[i] / 2), places=5)
            self.assertAlmostEqual(dbeta[i], dy[i], places=5)

    def test_a_refusal_has_the_words_of_the_library(self):
        with self.assertRaisesRegex(abi.DytError, "status 1: .*cols"):
            self.device.workspace_size(abi.problem("dyt", "f32", 1, 0, 0.0), "forward")


class Medians(unittest.TestCase):
    def test_summary(self):
        self.assertEqual(stats.summary([4, 1, 3]), [3, 1, 4])
        self.assertEqual(stats.summary(range(101)), [50, 25, 75])
        self.assertEqual(stats.summary([1, 2])[0], 1.5)
        with self.assertRaises(ValueError):
            stats.summary([])

    def test_each_is_called_once_a_round_in_changing_orders(self):
        calls = []

        def measure(name, time):
            return lambda: calls.append(name) or time

        found = stats.interleave({name: measure(name, i) for i, name in enumerate("abc")}, 20)
        rounds = ["".join(calls[i : i + 3]) for i in range(0, 60, 3)]
        self.assertTrue(all(sorted(order) == list("abc") for order in rounds))
        self.assertGreater(len(set(rounds)), 3)
        self.assertEqual({name: value[0] for name, value in found.items()}, {"a": 0, "b": 1, "c": 2})


class Grid(unittest.TestCase):
    def test_bytes(self):
        self.assertEqual(grid.Cell("dyt", "forward", 2, 3, "f32").bytes, 48)
        self.assertEqual(grid.Cell("dyt", "backward", 2, 3, "bf16").bytes, 36)
        self.assertEqual(grid.Cell("dyt", "forward+backward", 2, 3, "bf16").bytes, 60)

    def test_targets_are_for_large_tensors(self):
        self.assertIsNone(grid.target(grid.Cell("dyt", "forward", 8, 4096, "f32")))
        self.assertEqual(grid.target(grid.Cell("derf", "backward", 4096, 16384, "bf16")), 0.86)
        self.assertEqual(grid.target(grid.Cell("rms_norm", "forward", 8192, 4096, "f32")), 0.90)

    def test_no_cell_twice_and_all_ops_passes_and_types(self):
        cells = grid.cells()
        self.assertEqual(len(cells), len(set(cells)))
        self.assertEqual(len(cells), 8 * (2 * len(grid.SHAPES) + len(grid.F16_SHAPES)))
        self.assertLess(len(grid.cells(quick=True)), len(cells))
        self.assertEqual(len(grid.cells(ops=["dyt"], dtypes=["bf16"], chosen=grid.shapes("7x9,1x8"))), 4)
        for text in ("7", "0x9", "7x9x1", "a x b", "7x9,"):
            with self.assertRaises(ValueError):
                grid.shapes(text)


class Report(unittest.TestCase):
    def test_rates_and_ratios(self):
        ours, eager, liger, rms = report.rows(record())
        # 268 MB in 100 us; the copy of as many bytes takes 90.
        self.assertEqual(ours[1:], ("dyt", "100.00", "2684", "0.900", "0.93", "99.00", "3.00", "-", ""))
        self.assertEqual((eager[4], eager[5], eager[8]), ("0.360", "-", "2.50x"))
        self.assertEqual((liger[2], liger[4], liger[8]), ("-", "-", "-"))
        self.assertEqual((eager[6], eager[9]), ("-", "no graph: it waits"))
        self.assertIn("off by", liger[9])
        self.assertEqual(rms[5], "0.90")
        self.assertEqual(report.rms_ratios(record()), [("dyt forward 8192x4096 f32", 0.8)])

    def test_table_is_aligned(self):
        lines = report.table(record()).splitlines()
        self.assertIn("a GPU, driver 1.2", lines[0])
        column = lines[1].index("contender")
        self.assertTrue(lines[2][column:].startswith("dyt"))
        self.assertTrue(lines[3][column:].startswith("eager"))
        self.assertIn("0.80", lines[-1])


class Records(unittest.TestCase):
    def written(self, found):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "peers-f32.json"
            files.write(found, path)
            self.assertEqual(os.listdir(folder), [path.name])
            return files.load(path), path.read_text(encoding="utf-8")

    def test_what_is_read_is_what_was_written(self):
        again, text = self.written(record())
        self.assertEqual(again, {**record(), "format": files.FORMAT})
        reasons = set(json.loads(text)["reasons"].values())
        self.assertEqual(reasons, {"no graph: it waits", "not timed: y is off by 1.0e+00"})
        self.assertEqual(self.written({**record(), "cells": []})[0]["cells"], [])

    def test_a_cell_is_a_line_and_its_times_are_short(self):
        found = record()
        found["cells"][0]["copy"] = [100 / 3, 1234567.0, 0.5]
        again, text = self.written(found)
        self.assertIn('\n["forward",8192,4096,"f32",[33.333,1234600,0.5],"dyt",', text)
        self.assertEqual(again["cells"][0]["copy"], [33.333, 1234600, 0.5])

    def test_nan_and_other_formats_are_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "peers-f32.json"
            with self.assertRaises(ValueError):
                files.write({**record(), "seed": math.nan}, path)
            self.assertEqual(os.listdir(folder), [])
            path.write_text('{"format": 1}', encoding="utf-8")
            with self.assertRaises(ValueError):
                files.load(path)

    def test_the_whole_grid_of_a_dtype_has_at_most_64_kb(self):
        timing = [1234.5, 1234.4, 1234.6]
        for dtype in cells.SIZE:
            every = [
                {"op": c.op, "pass": c.pass_, "rows": c.rows, "cols": c.cols, "dtype": dtype, "sets": 16, "copy": timing,
                 "contenders": {name: [timing] * 3 for name in ("dyt", "eager", "compile", "liger", "quack")}}
                for c in grid.cells(dtypes=[dtype])
            ]  # fmt: skip
            self.assertLess(len(self.written({**record(), "cells": every})[1]), 64 << 10, dtype)


class Command(unittest.TestCase):
    def test_listing_needs_no_torch(self):
        said = subprocess.run(
            [sys.executable, HERE / "peers.py", "--list", "--ops", "dyt", "--dtypes", "bf16", "--quick"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.assertEqual(said.stdout.splitlines()[0], "dyt forward 8x4096 bf16")
        self.assertEqual(len(said.stdout.splitlines()), 6)

    def test_what_is_absent_is_said(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(peers.packed(pathlib.Path(folder) / "libdyt.so"), "unknown")
        said = subprocess.run(
            [sys.executable, HERE / "peers.py", "--ops", "batch_norm"], capture_output=True, text=True
        )
        self.assertEqual(said.returncode, 2)
        self.assertIn("no op is called batch_norm", said.stderr)


if __name__ == "__main__":
    unittest.main()
