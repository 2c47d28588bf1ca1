#!/usr/bin/env bash
# Builds what run.sh needs into benches/gpu/dist, on x86-64 Linux with Rust: the command, the C library, and the
# conformance tests. The machine with the GPU needs a glibc that is no older than this one's.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
dist=$here/dist
cd "$root"

[[ $(uname -sm) == "Linux x86_64" ]] || { echo "pack.sh: not x86-64 Linux" >&2; exit 1; }

# One call for each: features that another package asks for must not get in.
cargo build --release --locked -p dyt-cli
cargo build --release --locked -p dyt-capi
# The name of a test binary has a hash in it; cargo's messages say which one it is.
messages=$(cargo test --release --locked -p dyt --test conformance --no-run --message-format=json)
conformance=$(python3 -c '
import json, sys
found = [m["executable"] for m in map(json.loads, filter(None, sys.stdin.read().splitlines()))
         if m.get("reason") == "compiler-artifact" and m["target"]["name"] == "conformance" and m.get("executable")]
if len(found) != 1:
    sys.exit(f"pack.sh: {len(found)} conformance binaries")
print(found[0])' <<<"$messages")
target=$(cargo metadata --locked --no-deps --format-version 1 |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')

rm -rf "$dist"
mkdir -p "$dist"
cp "$target/release/dyt" "$target/release/libdyt.so" "$dist/"
cp "$conformance" "$dist/conformance"
strip --strip-debug "$dist/dyt" "$dist/libdyt.so" "$dist/conformance"

# The Python package, as a folder to import, and its tests of PyTorch.
rm -rf target/pack-python
python3 -m venv target/pack-python
target/pack-python/bin/pip wheel --quiet --no-deps --wheel-dir target/pack-python/wheel ./python
python3 -m zipfile --extract target/pack-python/wheel/dyt-*.whl "$dist/python"
cp -r python/tests "$dist/python-tests"
cp python/hub.py "$dist/"
rm -rf "$dist"/python-tests/__pycache__ "$dist"/python-tests/*/__pycache__

commit=$(git rev-parse HEAD)
[[ -z $(git status --porcelain --untracked-files=no) ]] || commit="$commit with changes"
{
    echo "commit $commit"
    rustc --version
} >"$dist/VERSION"
(cd "$dist" && sha256sum dyt libdyt.so conformance >SHA256SUMS)

cat "$dist/VERSION"
ls -l "$dist"
echo "Copy benches/gpu and benches/common, side by side, to the machine with the GPU, and run benches/gpu/run.sh there."
