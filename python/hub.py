#!/usr/bin/env python3
"""Lays a wheel out as a repository of Hugging Face `kernels`: `hub.py WHEEL DIRECTORY`.

    from kernels import LocalLayerRepository
    LocalLayerRepository(repo_path=DIRECTORY, layer_name="DynamicTanh")

One library serves every torch from 2.9 on, with CUDA and without. `kernels` looks for a folder for each backend: they hold
the same files.
"""

import json
import pathlib
import re
import sys
import zipfile

#: A folder of CUDA x.y serves every CUDA x.z from y on; the library itself needs the driver alone.
BACKENDS = {"cpu": "cpu", "cu120": "cuda", "cu130": "cuda"}


def main(wheel: str, directory: str) -> None:
    machine = re.search(r"[-.](?:many)?linux_(?:\d+_\d+_)?(\w+?)(?:\.|$)", pathlib.Path(wheel).name)
    if machine is None:
        sys.exit(f"hub.py: {wheel} is no wheel for Linux")
    for backend, kind in BACKENDS.items():
        name = f"torch-stable-abi29-{backend}-{machine[1]}-linux"
        lay_out(wheel, pathlib.Path(directory) / "build" / name, backend, kind)


def lay_out(wheel: str, variant: pathlib.Path, backend: str, kind: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith("dyt/") and not name.endswith("/"):
                target = variant / name.removeprefix("dyt/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
        version = (
            next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            .split("-")[1]
            .split(".dist")[0]
        )
    metadata = {
        "name": "dyt",
        "id": f"_dyt_{backend}_{version.replace('.', '_')}",
        "version": 1,
        "license": "MIT OR Apache-2.0",
        "python-depends": [],
        "backend": {"type": kind},
        "digest": {"algorithm": "sha256", "files": {}},
    }
    (variant / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
