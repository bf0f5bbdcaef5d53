#!/bin/sh
# Prints where axe-core is, which finds what keeps people from using a page; fetches it with npm once. It is under MPL-2.0 and only
# run by tests: no part of Berth.
set -eu
version=4.14.1
digest=1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5
cache=${BERTH_IMAGE_CACHE:-/var/cache/berth-test-images}
out=$cache/axe-core-$version.min.js
if [ ! -e "$out" ]; then
    command -v npm > /dev/null || { echo "axe.sh: npm is missing: apt-get install npm" >&2; exit 1; }
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/axe.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    npm pack --silent "axe-core@$version" > /dev/null
    echo "$digest  axe-core-$version.tgz" | sha512sum --check --status ||
        { echo "axe.sh: axe-core $version is not what it was: its digest is another" >&2; exit 1; }
    tar -xzf "axe-core-$version.tgz" package/axe.min.js
    # In one step: another test may fetch it at the same time.
    mv package/axe.min.js "$out"
fi
echo "$out"
