#!/usr/bin/env bash
# Builds the wheel that runs on other machines, from glibc 2.17 on, and checks it: `python/wheel.sh [FOLDER [OPTION …]]`, with
# the folder `dist` by default, and more options for maturin. Needs Rust, gcc, python3 with venv and a network: the linker is
# zig's, which PyPI has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly OUT=${1:-dist} OPTIONS=("${@:2}") TOOLS=target/wheel-tools GLIBC=2_17

# An exception of C++ goes through frames of this library, and so its unwinder has to be that of C++. zig would link its own.
UNWINDER=$(gcc -print-file-name=libgcc_s.so.1)

[[ -x $TOOLS/bin/python ]] || python3 -m venv "$TOOLS"
"$TOOLS/bin/pip" install --quiet 'maturin>=1.9,<2' ziglang auditwheel
# maturin looks for zig among the packages of the first Python on the PATH.
PATH=$PWD/$TOOLS/bin:$PATH maturin build --locked --zig --compatibility "manylinux_$GLIBC" --manifest-path python/Cargo.toml --out "$OUT" \
    "${OPTIONS[@]}" -- -C "link-arg=$UNWINDER"

shopt -s nullglob
wheels=("$OUT"/dyt-*-cp310-abi3-*manylinux_"$GLIBC"_*.whl)
((${#wheels[@]} == 1)) || { echo "wheel.sh: $OUT has ${#wheels[@]} wheels for glibc ${GLIBC/_/.}, expected one" >&2; exit 1; }
report=$("$TOOLS/bin/auditwheel" show "${wheels[0]}")
echo "$report"
# The tag that auditwheel finds by the symbols that the library needs: this one, or one of an earlier glibc.
tr '\n' ' ' <<<"$report" | grep -qE 'consistent with the following platform tag: "manylinux_2_(5|12|17)_' ||
    { echo "wheel.sh: the library needs a later glibc than ${GLIBC/_/.}" >&2; exit 1; }
python3 -m zipfile --list "${wheels[0]}"
"$TOOLS/bin/pip" install --quiet --no-deps --force-reinstall "${wheels[0]}"
# CUDA is among them, with what it lacks where there is no GPU.
"$TOOLS/bin/python" -c 'import dyt; print(*dyt.devices(), sep="\n")' | tee "$TOOLS/devices"
grep -q cuda "$TOOLS/devices"
