"""The assembler, the disassembler and nvcc of the environment that kernels/toolchain.txt makes."""

import collections
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile

TOOLS = pathlib.Path(sysconfig.get_paths()["purelib"]) / "nvidia/cu13/bin"
# What a kernel takes: registers of a thread, bytes of static shared memory, of the stack, and of spills.
Use = collections.namedtuple("Use", "registers shared stack spills")


def call(*command):
    """Runs a program; its standard output and error."""
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}:\n{run.stderr}")
    return run.stdout, run.stderr


def assemble(ptx, architecture, listing=False):
    """{kernel: Use} of a text of PTX, and what nvdisasm prints of the code if it is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        source, code = pathlib.Path(folder, "in.ptx"), pathlib.Path(folder, "out.cubin")
        source.write_text(ptx)
        _, report = call(TOOLS / "ptxas", "-v", f"-arch=sm_{architecture}", source, "-o", code)
        text = call(TOOLS / "nvdisasm", "-c", code)[0] if listing else None
    return uses(report), text


def uses(report):
    """What `ptxas -v` says of each kernel."""
    found = {}
    for part in report.split("Compiling entry function ")[1:]:
        name = re.match(r"'(\w+)'", part)[1]
        frame = [int(n) for n in re.search(r"(\d+) bytes stack frame, (\d+) .*stores, (\d+)", part).groups()]
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        shared = re.search(r"(\d+) bytes smem", part)
        found[name] = Use(registers, int(shared[1]) if shared else 0, frame[0], frame[1] + frame[2])
    return found


def nvcc(source, architecture):
    """The PTX that nvcc makes of a source, with the options of build/cuda.rs."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "out.ptx")
        _, report = call(TOOLS / "nvcc", "--ptx", "--std=c++17", f"-arch=compute_{architecture}", source, "-o", out)
        if report.strip():
            print(report, file=sys.stderr)
        return out.read_text()
