#!/usr/bin/env bash
# dyt beside torch, JAX and onnxruntime on the CPU: makes the environment in target/peers and the library, and runs
# cpu.py with the options given. Run it on an idle machine.
#
#   run.sh              one thread: the record, docs/performance.md, README.md and the figure are written anew
#   run.sh --threads 2  the same on two threads
#   run.sh --quick      a look in three minutes: writes target/peers/cpu-1t.json and no document
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/target/peers
venv=${PEERS_VENV:-$work/venv}
cd "$root"

if [[ ! -x $venv/bin/python ]]; then python3 -m venv "$venv"; fi
# Whether what is installed is what is asked for; pip itself takes seconds to say so.
if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi
command -v g++ >/dev/null || { echo "run.sh: torch.compile needs g++" >&2; exit 1; }

cargo build --release --locked -p dyt-capi
target=$(cargo metadata --locked --no-deps --format-version 1 |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')

mkdir -p "$work"
export TORCHINDUCTOR_CACHE_DIR=$work/inductor PYTHONDONTWRITEBYTECODE=1
"$venv/bin/python" "$here/cpu.py" --library "$target/release/libdyt.so" "$@"
