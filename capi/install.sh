#!/usr/bin/env bash
# Builds the C library and installs it, as `cargo cinstall` would where cargo-c is there.
#
#   capi/install.sh PREFIX [PROFILE [CARGO-OPTION …]]
#
# PREFIX gets include/dyt.h, lib/libdyt.so, lib/libdyt.a and lib/pkgconfig/dyt.pc. PROFILE is one of cargo's, and
# `release` if not given. DESTDIR is honoured. For Linux.
set -euo pipefail

prefix=${1:?PREFIX, the folder to install into}
profile=${2:-release}
options=("${@:3}")
[[ $prefix == /* ]] || { echo "PREFIX has to begin with /: $prefix" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

cargo build --locked --manifest-path "$here/Cargo.toml" --profile "$profile" "${options[@]}"
target=$(cargo metadata --locked --format-version 1 --no-deps --manifest-path "$here/Cargo.toml" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
version=$(cargo pkgid --locked --manifest-path "$here/Cargo.toml" | sed 's/.*[#@]//')
built=$target/$profile
[[ $profile != dev ]] || built=$target/debug
minor=${version%.*}

root=${DESTDIR:-}$prefix
install -d "$root/include" "$root/lib/pkgconfig"
install -m 644 "$here/include/dyt.h" "$root/include/dyt.h"
install -m 644 "$built/libdyt.a" "$root/lib/libdyt.a"
install -m 755 "$built/libdyt.so" "$root/lib/libdyt.so.$version"
ln -sf "libdyt.so.$version" "$root/lib/libdyt.so.$minor"
ln -sf "libdyt.so.$minor" "$root/lib/libdyt.so"
cat >"$root/lib/pkgconfig/dyt.pc" <<PC
prefix=$prefix
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: dyt
Description: Fused forward and backward kernels for DyT, Derf, LayerNorm and RMSNorm
Version: $version
Libs: -L\${libdir} -ldyt
Libs.private: -lgcc_s -lm -ldl -lpthread
Cflags: -I\${includedir}
PC
