#!/bin/bash
# From a fresh Debian 12 machine to a running service: installs the packages that are needed, builds the release binary,
# starts a one-node cluster, applies deploy/examples/hello.yaml, shows it and asks it for a page.
#
#   deploy/quickstart.sh              start in the background, show the service, leave it running
#   deploy/quickstart.sh --foreground the same, then stay with the daemon's log until Ctrl-C
#   deploy/quickstart.sh --clean      end the service and the daemon, remove its data
#
# BERTH_DATA_DIR (default /var/lib/berth), BERTH_PORT (default 8080, the published port).
set -euo pipefail
cd "$(dirname "$0")/.."

data=${BERTH_DATA_DIR:-/var/lib/berth}
port=${BERTH_PORT:-8080}
run=/run/berth
pidfile=$run/quickstart.pid
log=$data/daemon.log
berth=${CARGO_TARGET_DIR:-target}/release/berth
export BERTH_HOST=unix://$run/berth.sock

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }
# The daemon that this script started, if it still runs.
daemon_pid() {
    [ -r "$pidfile" ] || return 1
    pid=$(cat "$pidfile")
    [ "$(readlink "/proc/$pid/exe" 2>/dev/null | sed 's/ (deleted)$//')" = "$(readlink -f "$berth")" ] && echo "$pid"
}

[ "$(id -u)" = 0 ] || fail "needs root, to run containers"

if [ "${1:-}" = --clean ]; then
    if pid=$(daemon_pid); then
        say "stopping the daemon (pid $pid)"
        kill "$pid"
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    else
        say "no daemon of the quickstart runs"
    fi
    [ -x "$berth" ] || cargo build --release --locked -p berth
    # Its containers outlive the daemon: they end here, with everything else of its.
    rm -f "$log"
    "$berth" reset --force --data-dir "$data"
    rm -rf "$run"
    say "removed $run"
    exit 0
fi
case "${1:-}" in ''|--foreground) ;; *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;; esac

say "installing what is needed from Debian"
deploy/packages.sh build-essential pkg-config libseccomp-dev libelf-dev zlib1g-dev busybox-static nftables iproute2 curl
command -v cargo > /dev/null || fail "install Rust 1.95 or newer first: https://rustup.rs"

say "building the release binary (some minutes the first time)"
cargo build --release --locked -p berth

mkdir -p "$data" "$run"
if pid=$(daemon_pid); then
    say "the daemon already runs (pid $pid)"
else
    say "starting a one-node cluster: data in $data, log in $log"
    setsid "$berth" daemon --data-dir "$data" --socket "$run/berth.sock" >> "$log" 2>&1 < /dev/null &
    echo $! > "$pidfile"
    for _ in $(seq 300); do
        "$berth" node ls > /dev/null 2>&1 && break
        kill -0 "$(cat "$pidfile")" 2>/dev/null || { tail -20 "$log" >&2; fail "the daemon did not start"; }
        sleep 0.1
    done
fi
"$berth" node ls

say "making the image berth/hello:1 from Debian's busybox and loading it"
image=$(mktemp --suffix=.tar)
trap 'rm -f "$image"' EXIT
deploy/examples/hello-image.sh "$image"
"$berth" image load -i "$image"

say "applying deploy/examples/hello.yaml"
sed "s/\"8080:80\"/\"$port:80\"/" deploy/examples/hello.yaml | "$berth" apply --stack hello -f -

say "the service and its tasks"
"$berth" service ls
"$berth" service ps hello_web

say "asking it three times"
for _ in 1 2 3; do curl --fail --silent --show-error --max-time 5 "http://127.0.0.1:$port/"; done

cat <<TEXT

It runs. Some things to try:
  $berth service scale hello_web=5
  $berth logs -f hello_web
  $berth exec -it hello_web sh
  $berth token create --role admin me     and with that token a browser at http://127.0.0.1:4778/
  deploy/quickstart.sh --clean
TEXT
if [ "${1:-}" = --foreground ]; then
    say "the daemon's log; Ctrl-C stops the daemon, its containers run on"
    trap 'kill "$(cat "$pidfile")" 2>/dev/null; rm -f "$image"' EXIT
    tail -n +1 -f --pid "$(cat "$pidfile")" "$log"
fi
