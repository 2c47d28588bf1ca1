"""What the plans launch, as the crate `dyt-launches` prints it."""

import collections
import os
import pathlib
import sys

import toolchain

ROOT = pathlib.Path(__file__).resolve().parents[2]
# `shared` are bytes of dynamic shared memory for each architecture of SHARED; `elements` those of a thread.
Launch = collections.namedtuple("Launch", "kernel dtype param_dtype grid block shared elements args")
SHARED = (75, 80, 90)


def launches():
    """Every Launch, in the order of the kernels."""
    # Plans take no time, and an optimised build minutes.
    os.environ["CARGO_PROFILE_DEV_OPT_LEVEL"] = "0"
    text, _ = toolchain.call("cargo", "run", "--quiet", "--locked", "--manifest-path", ROOT / "Cargo.toml",
                             "-p", "dyt-launches")
    found = [launch(*line.split()) for line in text.splitlines()]
    if not found:
        sys.exit("dyt-launches prints nothing")
    return found


def launch(kernel, dtype, param_dtype, blocks, x, y, *rest):
    *shared, elements, args = rest
    return Launch(kernel, dtype, param_dtype, (int(blocks), 1, 1), (int(x), int(y), 1), tuple(map(int, shared)),
                  int(elements), bytes.fromhex(args))
