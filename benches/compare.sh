#!/usr/bin/env bash
# Whether one revision is slower than another: builds both, runs them in one process, interleaved, on the grid of compare.c,
# and fails where a cell is more than 3 % slower in each of three runs. The machine is to be idle.
#
#   compare.sh OLD NEW [DEVICE [THREADS [FILTER]]]
#
# OLD and NEW are revisions of git; `.` is the checkout as it stands. DEVICE is "cpu" or a level, such as "cpu:avx2". FILTER is
# a part of a cell's name, such as "layer_norm forward".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if (($# < 2)); then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
readonly PLACE=$PWD/target/compare
mkdir -p "$PLACE"

# The shared library of a revision, without GPUs, which take most of the time of a build.
build() {
    local revision=$1 tree=$PWD library
    if [[ $revision != . ]]; then
        revision=$(git rev-parse --verify "$revision^{commit}")
        tree=$PLACE/tree
        git worktree remove --force "$tree" 2>/dev/null || rm -rf "$tree"
        git worktree add --quiet --detach "$tree" "$revision"
    fi
    library=$PLACE/libdyt-${revision/#./checkout}.so
    if [[ $revision == . || ! -e $library ]]; then
        (cd "$tree" && CARGO_TARGET_DIR=$PLACE/target \
            cargo build --release -p dyt-capi --no-default-features --features rayon)
        cp "$PLACE/target/release/libdyt.so" "$library"
    fi
    [[ $revision == . ]] || git worktree remove --force "$tree"
    echo "$library"
}

old=$(build "$1")
new=$(build "$2")
shift 2
cc -std=gnu17 -O2 -Wall -Wextra -Werror -Icapi/include benches/compare.c -o "$PLACE/compare" -ldl
run=("$PLACE/compare" "$old" "$new" "$@")
# One thread stays on one processor.
if (("${2:-1}" == 1)) && command -v taskset >/dev/null; then
    run=(taskset -c 0 "${run[@]}")
fi
"${run[@]}"
