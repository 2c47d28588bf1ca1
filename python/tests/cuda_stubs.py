#!/usr/bin/env python3
"""Stands in for the CUDA libraries that PyPI's torch names, so that it runs on a CPU without 3 GB of them.

    cuda_stubs.py SITE-PACKAGES DIRECTORY

Each function of the stand-ins returns 100, "no device". Put DIRECTORY into LD_LIBRARY_PATH.
"""

import collections
import pathlib
import re
import subprocess
import sys

WANTED = re.compile(r"lib(cu|nv|nccl)")


def needed(library):
    """The libraries that a library names."""
    lines = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"NEEDED.*\[(.*)\]", lines))


def undefined(library):
    """Pairs of a symbol that a library wants and the version of it, which is "" where it has none."""
    lines = subprocess.run(["nm", "-D", "--undefined-only", library], check=True, capture_output=True, text=True).stdout
    return re.findall(r"[Uw] (\w+)(?:@+(\S+))?$", lines, re.MULTILINE)


def versions(library):
    """Of which library each version is that a library asks for."""
    lines = subprocess.run(["readelf", "--version-info", library], check=True, capture_output=True, text=True).stdout
    owners, file = {}, None
    for line in lines.partition("Version needs")[2].splitlines():
        if match := re.search(r"File: (\S+)", line):
            file = match[1]
        elif match := re.search(r"Name: (\S+)", line):
            owners[match[1]] = file
    return owners


def write(directory, soname, symbols):
    """A library of these symbols, by their version."""
    source, script = directory / "stub.c", directory / "stub.map"
    source.write_text(
        "".join(f"int {symbol}(void) {{ return 100; }}\n" for name in symbols.values() for symbol in name)
    )
    nodes = [
        f"{name} {{ global: {' '.join(f'{symbol};' for symbol in wanted)} }};\n"
        for name, wanted in symbols.items()
        if name
    ]
    script.write_text("".join(nodes))
    command = ["gcc", "-shared", "-w", "-fno-builtin", f"-Wl,-soname,{soname}", "-o", directory / soname, source]
    subprocess.run(command + ([f"-Wl,--version-script={script}"] if nodes else []), check=True)
    source.unlink()
    script.unlink()


def main(packages, directory):
    torch = pathlib.Path(packages) / "torch"
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    libraries = [*torch.glob("lib/*.so*"), *torch.glob("_C*.so")]
    # The driver itself is left out: dyt tells its absence.
    names = {name for library in libraries for name in needed(library) if WANTED.match(name)} - {"libcuda.so.1"}
    symbols = {name: collections.defaultdict(set) for name in names - {library.name for library in libraries}}
    plain = set()
    for library in libraries:
        owners = versions(library)
        for symbol, version in undefined(library):
            if owners.get(version) in symbols:
                symbols[owners[version]][version].add(symbol)
            elif not version and re.match(r"(cu|nv|nccl)", symbol):
                plain.add(symbol)
    # Symbols without a version are found in whichever library has them. A torch without CUDA names no library.
    for one in [one for one in symbols.values() if not one][:1]:
        one[""] = plain
    for name, wanted in symbols.items():
        write(directory, name, wanted)


if __name__ == "__main__":
    main(*sys.argv[1:])
