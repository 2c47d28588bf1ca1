#!/usr/bin/env python3
"""Remakes kernels/ptx: each kernels/*.cu by NVRTC 12.0, compressed, as SOURCE.sm_ARCHITECTURE.ptx.gz.

    python3 -m venv target/cuda-tools
    target/cuda-tools/bin/pip install -r kernels/toolchain.txt
    target/cuda-tools/bin/python kernels/make_ptx.py            # writes kernels/ptx
    target/cuda-tools/bin/python kernels/make_ptx.py --check    # writes nothing, fails on a difference

Every source has PTX for the architectures of ARCHITECTURES. One that is better off with more, say for sm_90, gets them by
`make_ptx.py --arch 90 kernels/SOURCE.cu`: from then on the file in kernels/ptx is remade and checked as the others are.
No GPU, driver or toolkit is needed. The sources go to the compiler by name and text, so that no path of this machine
gets into the output.
"""

import argparse
import concurrent.futures
import ctypes
import gzip
import io
import pathlib
import re
import sys
import sysconfig

HERE = pathlib.Path(__file__).resolve().parent
# sm_90 and later run the PTX of sm_80: benches/record/2026-11-28-cuda-ptx-sm80-sm90.md.
ARCHITECTURES = (75, 80)
RELEASE = (12, 0)
# Lambdas bear no annotation; nvcc takes those of a device function for device functions without being told.
OPTIONS = ("--std=c++17", "--device-as-default-execution-space")


class Nvrtc:
    """The few functions of NVRTC that a compilation needs."""

    def __init__(self):
        folder = pathlib.Path(sysconfig.get_paths()["purelib"]) / "nvidia/cuda_nvrtc/lib"
        # The compiler opens its table of built-ins by name: it has to be there already.
        for builtins in folder.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        self.lib = ctypes.CDLL(str(folder / "libnvrtc.so.12"))
        self.lib.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self.call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        if (major.value, minor.value) != RELEASE:
            sys.exit(f"NVRTC {major.value}.{minor.value} is installed; kernels/toolchain.txt says {RELEASE}")

    def call(self, name, *arguments):
        status = getattr(self.lib, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}: {self.lib.nvrtcGetErrorString(status).decode()}")

    def text(self, kind, program):
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{kind}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{kind}", program, buffer)
        return buffer.raw.rstrip(b"\0").decode()

    def compile(self, source, headers, architecture, more):
        names = (ctypes.c_char_p * len(headers))(*(h.name.encode() for h in headers))
        texts = (ctypes.c_char_p * len(headers))(*(h.read_bytes() for h in headers))
        program = ctypes.c_void_p()
        self.call("nvrtcCreateProgram", ctypes.byref(program), source.read_bytes(), source.name.encode(),
                  len(headers), texts, names)
        options = [f"--gpu-architecture=compute_{architecture}", *OPTIONS, *more]
        array = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        try:
            self.call("nvrtcCompileProgram", program, len(options), array)
        except RuntimeError as error:
            sys.exit(f"{source.name} for compute_{architecture}: {error}\n{self.text('ProgramLog', program)}")
        log = self.text("ProgramLog", program).strip()
        if log:
            print(f"{source.name} for compute_{architecture}:\n{log}", file=sys.stderr)
        ptx = self.text("PTX", program)
        self.call("nvrtcDestroyProgram", ctypes.byref(program))
        return tidy(ptx)


def tidy(ptx):
    """Without what says nothing to a driver: comments, blank lines, and the constants of NVRTC's own <nv/target>,
    which no kernel uses."""
    lines = (line.split("//")[0].strip() for line in ptx.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not (line.startswith(".global") and "nv6target" in line))


def make(job):
    """The PTX of a source for an architecture."""
    source, architecture, defines = job
    headers = sorted(HERE.glob("*.cuh"))
    return Nvrtc().compile(source, headers, architecture, [f"-D{d}" for d in defines])


def compressed(text):
    """The bytes of a gzip file: with neither a time nor a name, so that the text alone decides them."""
    out = io.BytesIO()
    with gzip.GzipFile("", "wb", 9, out, 0) as file:
        file.write(text.encode())
    return out.getvalue()


def read(path):
    """The text of a file that `compressed` made. Another zlib may compress it to other bytes."""
    return gzip.decompress(path.read_bytes()).decode()


def path_of(folder, source, architecture):
    return folder / f"{source.stem}.sm_{architecture}.ptx.gz"


def present(folder):
    """(name of the source, architecture) of the files in a folder."""
    found = ((path, re.fullmatch(r"(\w+)\.sm_(\d+)\.ptx\.gz", path.name)) for path in sorted(folder.glob("*")))
    for path, match in found:
        if match is None:
            sys.exit(f"{path}: not SOURCE.sm_ARCHITECTURE.ptx.gz")
        yield match[1], int(match[2])


def jobs_of(arguments):
    """(source, architecture) of what is to be made: the longest first, so that no core is left with one at the end."""
    sources = arguments.sources or sorted(HERE.glob("*.cu"))
    sources.sort(key=lambda source: source.stat().st_size, reverse=True)
    more = set(present(arguments.out))
    for source in sources:
        wanted = {*ARCHITECTURES, *(architecture for name, architecture in more if name == source.stem)}
        for architecture in arguments.arch or sorted(wanted):
            yield source, architecture


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is there instead of writing")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "ptx", help="the folder (kernels/ptx)")
    parser.add_argument("--arch", type=int, action="append", help="an architecture instead of all, such as 90")
    parser.add_argument("--define", action="append", default=[], help="a macro, for experiments")
    parser.add_argument("sources", nargs="*", type=pathlib.Path, help="instead of all of kernels/*.cu")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    jobs = [(*job, arguments.define) for job in jobs_of(arguments)]
    stale = []
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for (source, architecture, _), ptx in zip(jobs, pool.map(make, jobs)):
            target = path_of(arguments.out, source, architecture)
            if arguments.check:
                if not target.is_file() or read(target) != ptx:
                    stale.append(str(target))
                continue
            # Where the text is the same, so are the bytes, whatever the zlib.
            if not target.is_file() or read(target) != ptx:
                target.write_bytes(compressed(ptx))
            print(f"{target}: {len(ptx)} bytes, {target.stat().st_size} compressed, {ptx.count('.entry')} entries")
    if not arguments.sources:
        names = {source.stem for source, _, _ in jobs}
        stale += [f"{name} for sm_{a} (has no source)" for name, a in present(arguments.out) if name not in names]
    if stale:
        sys.exit("not what the sources give: " + ", ".join(stale))


if __name__ == "__main__":
    main()
