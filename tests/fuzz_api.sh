#!/bin/bash
# Asks one real daemon, in namespaces of its own, for everything that the OpenAPI document of its API allows and for much that
# it forbids, and compares the answers with the document (schemathesis). Then the daemon must live, must have panicked nowhere,
# and must show the same cluster after a restart.
#
#   tests/fuzz_api.sh          400 examples an operation, another seed each time (it is printed): some minutes
#   tests/fuzz_api.sh --short  2 an operation, always the same: under a minute
#   tests/fuzz_api.sh --clean  removes the cached schemathesis
#
# SEED, EXAMPLES and PHASES take other values; BERTH is the binary to test (default: the debug build, which is made first).
# Needs root, python3-venv, and the package index of Python the first time.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.32.5
cache=/var/cache/berth-test-schemathesis
fail() { printf 'tests/fuzz_api.sh: %s\n' "$*" >&2; exit 1; }

mode=${1:-}
case $mode in
    --short)
        seed=${SEED:-1} examples=${EXAMPLES:-2} draws=(--generation-deterministic --no-shrink)
        # Its body is that of create_service: a thousand requests more that show nothing else.
        draws+=(--exclude-operation-id replace_service) ;;
    '') seed=${SEED:-$RANDOM} examples=${EXAMPLES:-400} draws=(--generation-database none) ;;
    --clean) rm -rf "$cache"; echo "removed $cache"; exit 0 ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || fail "needs root, for namespaces and mounts"

if [ -z "${BERTH:-}" ]; then
    cargo build --quiet --locked -p berth
    BERTH=${CARGO_TARGET_DIR:-target}/debug/berth
fi
berth=$(readlink -f "$BERTH")
config=$(readlink -f tests/fuzz_api.toml)
hooks=$(readlink -f tests)

tool=$cache/$version/bin/schemathesis
if [ ! -x "$tool" ]; then
    rm -rf "${cache:?}/$version"
    mkdir -p "$cache"
    python3 -m venv "$cache/$version"
    "$cache/$version/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi

dir=$(mktemp -d)
keeper='' daemon=''
# Ends what this script has started, and nothing else. What failed is kept, and shown where.
finish() {
    status=$?
    if [ -n "$daemon" ]; then
        kill "$daemon" 2> /dev/null || true
        wait "$daemon" 2> /dev/null || true
    fi
    if [ -n "$keeper" ]; then
        inside "$berth" reset --force --data-dir "$dir/data" > /dev/null 2>&1 || true
        kill "$keeper" 2> /dev/null || true
        wait "$keeper" 2> /dev/null || true
    fi
    if [ "$status" = 0 ]; then
        rm -rf "$dir"
    else
        echo "tests/fuzz_api.sh: failed (seed $seed); the daemon's log and data are in $dir" >&2
    fi
}
trap finish EXIT

# The machine: a network with nothing but a loopback, a /run of its own.
unshare --net --mount --uts sh -c 'mount --make-rprivate / && mount -t tmpfs run /run && mkdir -p /run/lock \
    && ip link set lo up && hostname fuzz && touch "$0/machine" && exec sleep infinity' "$dir" &
keeper=$!
for _ in $(seq 100); do [ -e "$dir/machine" ] && break; sleep 0.1; done
[ -e "$dir/machine" ] || fail "the namespaces could not be made"
inside() { nsenter --target "$keeper" --net --mount --uts -- "$@"; }
start() {
    nsenter --target "$keeper" --net --mount --uts -- \
        "$berth" daemon --data-dir "$dir/data" --http-addr 127.0.0.1:4778 >> "$dir/daemon.log" 2>&1 < /dev/null &
    daemon=$!
    for _ in $(seq 300); do
        inside "$berth" node ls --format json 2> /dev/null | grep -q '"ready"' && return
        kill -0 "$daemon" 2> /dev/null || { tail -n 20 "$dir/daemon.log" >&2; fail "the daemon did not start"; }
        sleep 0.1
    done
    fail "the daemon does not answer"
}
start

# What there is before: one object of each kind, for the paths that name one (tests/fuzz_api.toml has their names).
cat > "$dir/shop.yaml" << 'YAML'
services:
  web:
    image: berth/nothing:1
    pull_policy: never
    networks: [net]
    configs: [conf]
    volumes: ["data:/data"]
    deploy: { replicas: 2, restart_policy: { condition: none } }
networks: { net: {} }
volumes: { data: {} }
configs: { conf: { content: hello } }
YAML
inside "$berth" apply --detach --stack shop -f "$dir/shop.yaml" > "$dir/apply.log" 2>&1 || { cat "$dir/apply.log" >&2; fail "apply failed"; }
printf 'not a secret' | inside "$berth" secret create password - > /dev/null
BERTH_TOKEN=$(inside "$berth" token create fuzz --role admin 2> /dev/null | grep -o 'berth_api_[0-9a-z]*')
export BERTH_TOKEN
url=http://127.0.0.1:4778
ask() { inside curl --silent --show-error --fail --max-time 20 -H "Authorization: Bearer $BERTH_TOKEN" "$url$1"; }
ask /api/v1/openapi.json > "$dir/openapi.json"

echo "schemathesis $version, seed $seed, $examples examples an operation"
rc=0
inside env PYTHONPATH="$hooks" PYTHONDONTWRITEBYTECODE=1 "$tool" --config-file "$config" \
    run "$dir/openapi.json" --url "$url" --seed "$seed" --max-examples "$examples" \
    --phases "${PHASES:-examples,coverage,fuzzing,stateful}" \
    "${draws[@]}" --no-color > "$dir/report.txt" 2>&1 || rc=$?
if [ "$rc" != 0 ]; then
    cat "$dir/report.txt" >&2
    fail "the API does not do what its document says"
fi
tail -n 25 "$dir/report.txt"

# What holds whatever was asked: it lives, nothing has panicked, and what was acknowledged is there after a restart.
kill -0 "$daemon" 2> /dev/null || { tail -n 20 "$dir/daemon.log" >&2; fail "the daemon has ended"; }
[ "$(inside curl --silent --max-time 20 "$url/healthz")" = ok ] || fail "the daemon is not well"
! grep -n 'panicked at' "$dir/daemon.log" || fail "the daemon has panicked"
kinds="stacks networks volumes configs secrets tokens"
# Names and ids of everything that changes only when somebody asks; all pages. Some tokens expire meanwhile.
objects() {
    for kind in $kinds; do
        next=''
        while :; do
            ask "/api/v1/$kind?limit=1000${next:+&cursor=$next}" > "$dir/page.json"
            python3 - "$kind" "$dir/page.json" << 'PY'
import json, sys
for item in json.load(open(sys.argv[2]))["items"]:
    if not item.get("expires_at"):
        print(sys.argv[1], item.get("id", ""), item["name"])
PY
            next=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["next"] or "")' "$dir/page.json")
            [ -n "$next" ] || break
        done
    done
}
objects > "$dir/before"
kill "$daemon"
wait "$daemon" || true
daemon=''
start
objects > "$dir/after"
diff -u "$dir/before" "$dir/after" >&2 || fail "the cluster is another one after a restart"
# Ids name one object, and so do names.
for column in 2 3; do
    twice=$(awk -v column=$column '$column != "" { print $1, $column }' "$dir/after" | sort | uniq -d)
    [ -z "$twice" ] || fail "there twice: $twice"
done
echo "$(wc -l < "$dir/after") objects are the same after a restart"
