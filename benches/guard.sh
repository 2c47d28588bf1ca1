#!/usr/bin/env bash
# Instructions of one call of every op, pass and type, counted by callgrind and compared with guard.txt: a guard against
# slower code that repeats exactly on a busy machine. Valgrind has no AVX-512, so it counts the levels below.
#
#   guard.sh            fails if a count is more than 5 % above the recorded one, and tells which
#   guard.sh --write    records the counts anew: the change says why they differ
#
# Counts belong to a compiler: guard.txt names the one that it was recorded with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly MARGIN_PERCENT=5
readonly RECORD=benches/guard.txt
readonly OPS=(dyt derf layer_norm rms_norm) PASSES=(forward backward)

# Without GPUs, which take most of the time of a build.
cargo build --release --locked -p dyt-capi --no-default-features --features rayon
target=$(cargo metadata --locked --no-deps --format-version 1 |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -std=c11 -O1 -Wall -Wextra -Werror -Icapi/include benches/guard.c -o "$work/guard" \
    "$target/release/libdyt.a" -lpthread -ldl -lm

# The instructions from the entry into the library to its return.
count() {
    local log=$work/log
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=dyt_forward \
        --toggle-collect=dyt_backward "$work/guard" "$@" 2>"$log" || { cat "$log" >&2; return 1; }
    # Nothing counted is no count: the call was not found, or never made.
    sed -n 's/^==[0-9]*== Collected : \([1-9][0-9]*\)$/\1/p' "$log" | grep . || { cat "$log" >&2; return 1; }
}

counts() {
    local level op pass dtype instructions
    for level in avx2 portable; do
        for op in "${!OPS[@]}"; do
            for pass in "${!PASSES[@]}"; do
                # The numbers of dyt.h: f32 is 0, bf16 is 2.
                for dtype in 0 2; do
                    instructions=$(count "cpu:$level" "$op" "$pass" "$dtype")
                    echo "$level ${OPS[op]} ${PASSES[pass]} $([[ $dtype == 0 ]] && echo f32 || echo bf16) $instructions"
                done
            done
        done
    done
}

counts >"$work/counts"
if [[ "${1:-}" == --write ]]; then
    { echo "# $(rustc --version), 64 x 768: instructions of one call"; cat "$work/counts"; } >"$RECORD"
    echo "written: $RECORD"
    exit
fi
head -n 1 "$RECORD"
awk -v margin="$MARGIN_PERCENT" '
    { name = $1 " " $2 " " $3 " " $4 }
    /^#/ { next }
    NR == FNR { recorded[name] = $5; next }
    !(name in recorded) { print name ": not recorded"; bad = 1; next }
    {
        change = ($5 / recorded[name] - 1) * 100
        verdict = change > margin ? "MORE" : change < -margin ? "fewer: record anew" : "as recorded"
        printf "%-40s %10d %+6.2f %%  %s\n", name, $5, change, verdict
        if (change > margin) bad = 1
        seen++
    }
    END { if (!seen) { print "nothing was counted"; bad = 1 } exit bad }
' "$RECORD" "$work/counts"
