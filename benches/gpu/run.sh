#!/usr/bin/env bash
# On a machine with an NVIDIA driver and PyTorch, without Rust and without a network: conformance on the GPU,
# compute-sanitizer where there is one, the Python tests, then the peers. pack.sh has made dist/ elsewhere.
#
#   run.sh [--results DIR] [--skip-sanitizer] [options of peers.py, such as --quick or --no-compile]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dist=$here/dist
results=$here/results
sanitize=true
peers=()
while (($#)); do
    case $1 in
    --results)
        results=${2:?--results needs a folder}
        shift
        ;;
    --skip-sanitizer) sanitize=false ;;
    *) peers+=("$1") ;;
    esac
    shift
done

[[ -x $dist/conformance ]] || { echo "run.sh: $dist is empty; pack.sh fills it" >&2; exit 2; }
(cd "$dist" && sha256sum --check --quiet SHA256SUMS)
mkdir -p "$results"
failed=()

echo "== The machine"
cat "$dist/VERSION"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1 | tee "$results/gpu.txt" || true
"$dist/dyt" info | tee "$results/info.txt"
if ! grep -qE '^cuda:[0-9]+ +available' "$results/info.txt"; then
    echo "run.sh: no CUDA device: $(sed -n 's/^cuda[:0-9]* *//p' "$results/info.txt")" >&2
    exit 2
fi

echo "== Conformance"
# Wrong kernels are not timed.
if ! DYT_REQUIRE=cuda "$dist/conformance" --nocapture >"$results/conformance.txt" 2>&1; then
    tail -n 40 "$results/conformance.txt"
    echo "run.sh: conformance failed; all of it is in $results/conformance.txt" >&2
    exit 1
fi
grep -m 1 '^coverage:' "$results/conformance.txt"
tail -n 2 "$results/conformance.txt"

find_sanitizer() {
    command -v compute-sanitizer && return
    local path
    for path in "${CUDA_HOME:-/usr/local/cuda}"/bin/compute-sanitizer /usr/local/cuda*/bin/compute-sanitizer; do
        [[ -x $path ]] && echo "$path" && return
    done
    return 1
}

if ! $sanitize; then
    echo "== compute-sanitizer: skipped, as asked"
elif ! sanitizer=$(find_sanitizer); then
    echo "== compute-sanitizer: not on this machine, and so not run"
else
    for tool in memcheck racecheck; do
        echo "== compute-sanitizer: $tool"
        log=$results/$tool.txt
        # The short list, as each launch takes a hundred times as long; one test, the only one that launches.
        if DYT_TEST_QUICK=1 DYT_REQUIRE=cuda timeout 3600 "$sanitizer" --tool "$tool" --error-exitcode 99 \
            "$dist/conformance" --exact every_case_passes_on_every_device --nocapture >"$log" 2>&1; then
            tail -n 1 "$log"
        else
            failed+=("$tool")
            tail -n 20 "$log"
        fi
    done
fi

# The Python tests of one framework, where the check passes: `python_tests NAME CHECK FILE …`.
python_tests() {
    local name=$1 check=$2 log=$results/python-$1.log
    shift 2
    if ! python3 -c "$check" 2>"$log"; then
        echo "$name: skipped: $(tail -n 1 "$log")"
        return
    fi
    # The folder is not written to. The tests that take a compiler are CI's.
    if PYTHONPATH=$dist/python PYTHONDONTWRITEBYTECODE=1 python3 -m pytest -q -p no:cacheprovider -m 'not slow' \
        "${@/#/$dist/python-tests/}" >"$log" 2>&1; then
        echo "$name: $(tail -n 1 "$log")"
    else
        failed+=("python-$name")
        tail -n 40 "$log"
    fi
}

echo "== Python"
python_tests torch 'import numpy, pytest, torch; assert torch.cuda.is_available()' torch_door
python_tests jax 'import jax, pytest; assert jax.default_backend() == "gpu"' test_jax.py test_jax_vmap.py test_jax_modules.py

echo "== Peers"
# Some frameworks write beside their sources or to HOME; neither has to be writable.
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$results/cache/inductor}
export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$results/cache/triton}
export PYTHONDONTWRITEBYTECODE=1
if ! python3 "$here/peers.py" --library "$dist/libdyt.so" --results "$results" "${peers[@]}" \
    2>"$results/peers.log" | tee "$results/peers.txt"; then
    failed+=(peers)
    tail -n 20 "$results/peers.log"
fi

if ((${#failed[@]})); then
    echo "run.sh: failed: ${failed[*]}" >&2
    exit 1
fi
echo "All of it is in $results"
