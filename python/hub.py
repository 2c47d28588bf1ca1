#!/usr/bin/env python3
"""Lays a wheel out as a repository of Hugging Face `kernels`: `hub.py WHEEL DIRECTORY`.

    from kernels import LocalLayerRepository
    LocalLayerRepository(repo_path=DIRECTORY, layer_name="DynamicTanh")

One variant serves every torch, with CUDA and without, as the wheel does.
"""

import json
import pathlib
import sys
import zipfile


def main(wheel: str, directory: str) -> None:
    variant = pathlib.Path(directory) / "build" / "torch-universal"
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
        "id": f"_dyt_universal_{version.replace('.', '_')}",
        "version": 1,
        "license": "MIT OR Apache-2.0",
        "python-depends": [],
        "backend": {"type": "cpu"},
        "digest": {"algorithm": "sha256", "files": {}},
    }
    (variant / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
