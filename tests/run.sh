#!/bin/bash
# Every check and every test: format, lints, docs, licences, unit tests, containers on cgroup v2 under QEMU, the API against its
# document, end-to-end tests on namespace hosts.
#
#   tests/run.sh           all of it (root; about half an hour on two cores)
#   tests/run.sh --clean   removes what test runs left: target/e2e and cached packages
#   tests/run.sh NAME...   only the end-to-end tests whose file is tests/tests/NAME.rs
#
# Not part of it, for they take long: agent/tests/cgroup_v2.sh, every test of the runtime on cgroup v2;
# netoverlay/tunnel/tests/in_kernel.sh, encrypted links by the kernel's WireGuard; tests/fuzz_api.sh without --short.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
if [ "${1:-}" = --clean ]; then
    rm -rf "$target/e2e" /var/cache/berth-test-images /var/cache/berth-test-schemathesis
    echo "removed $target/e2e, /var/cache/berth-test-images and /var/cache/berth-test-schemathesis"
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "tests/run.sh: needs root, for namespaces, mounts and packages" >&2
    exit 1
fi

# Built once and thrown away: what serves the next build of a changed tree, or a debugger, only costs time.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0

step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

step "packages"
deploy/packages.sh build-essential pkg-config libseccomp-dev libelf-dev zlib1g-dev busybox-static nftables iproute2 \
    util-linux curl xz-utils docker-registry apache2-utils openssl runc binutils qemu-system-x86 prometheus \
    chromium chromium-driver fonts-dejavu-core python3-venv
command -v npm > /dev/null || deploy/packages.sh npm
cargo --version > /dev/null || { echo "tests/run.sh: install Rust 1.95 or newer first: https://rustup.rs" >&2; exit 1; }

if [ $# -gt 0 ]; then
    cargo build --quiet -p berth
    for name in "$@"; do
        cargo test --quiet -p berth-tests --test "$name"
    done
    exit 0
fi

step "format"
cargo fmt --all --check
step "build and lints"
# What the steps below run, all at once: built one by one their crates would get other features and be built three times. By
# clippy's driver, which is the compiler with more lints: to look first and build then takes half as long again.
RUSTC_WORKSPACE_WRAPPER=$(rustc --print sysroot)/bin/clippy-driver
export RUSTC_WORKSPACE_WRAPPER CLIPPY_ARGS=-Dwarnings__CLIPPY_HACKERY__
cargo build --quiet --workspace --all-targets --locked
step "unit and component tests"
# One seed, so that a run repeats; PROPTEST_RNG_SEED=$RANDOM and PROPTEST_CASES=5000 look further.
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}
# By name, for to leave a package out would give the others' dependencies other features, and build them all once more.
units=()
while read -r name; do units+=(--test "$name"); done < <(cargo metadata --no-deps --format-version 1 --locked | python3 -c '
import json, sys
packages = [p for p in json.load(sys.stdin)["packages"] if p["name"] != "berth-tests"]
print(*sorted({t["name"] for p in packages for t in p["targets"] if "test" in t["kind"]}), sep="\n")')
[ ${#units[@]} -gt 0 ] || { echo "tests/run.sh: no test is found" >&2; exit 1; }
cargo test --workspace --locked --lib --bins "${units[@]}"
step "documentation"
env --unset RUSTC_WORKSPACE_WRAPPER RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --locked
step "containers on cgroup v2"
agent/tests/cgroup_v2.sh --short
step "the API against its document"
BERTH=$target/debug/berth tests/fuzz_api.sh --short
step "end-to-end tests"
# One binary at a time, each with few hosts at once: two cores.
names=()
for file in tests/tests/*.rs; do names+=(--test "$(basename "$file" .rs)"); done
cargo test --workspace --locked "${names[@]}" -- --test-threads=2
step "done"
