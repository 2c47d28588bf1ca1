#!/usr/bin/env python3
"""dyt through its C ABI beside torch eager, torch.compile, JAX and onnxruntime on the CPU, in one process.

Prints a table and writes JSON; a whole run writes the record, the figure and the tables of the documents, too.
README.md says how to run it: run.sh makes the environment."""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "common")]

import machine  # noqa: E402
import session  # noqa: E402

PACKAGES = ("torch", "jax", "jaxlib", "onnxruntime", "numpy")


def options(arguments):
    """The command line."""
    parser = session.parser(__doc__)
    parser.add_argument("--library", type=pathlib.Path, required=True, help="libdyt.so")
    parser.add_argument("--device", default="cpu", help="such as cpu:avx2")
    parser.add_argument("--peers", help="only these: eager,compile,jax,onnxruntime")
    chosen = session.options(parser, arguments)
    chosen.peers = chosen.peers.split(",") if chosen.peers else None
    return chosen


def start(chosen):
    """What the record says of the contenders, and the function that measures a group."""
    os.environ["CUDA_VISIBLE_DEVICES"], os.environ["JAX_PLATFORMS"] = "", "cpu"
    import abi
    import contenders
    import measure

    device = abi.Device(chosen.library, chosen.device)
    there, absent = contenders.found(device, chosen.threads, chosen.peers)
    if "eager" in there:
        import torch

        torch.set_num_threads(chosen.threads)
    about = {"device": device.name(), "versions": machine.versions(PACKAGES), "absent": absent}
    return about, lambda group: measure.group(group, there, chosen.seed, chosen.quick)


def main(arguments=None):
    """The exit status."""
    chosen = options(arguments)
    return session.run("cpu", chosen, lambda: start(chosen))


if __name__ == "__main__":
    sys.exit(main())
