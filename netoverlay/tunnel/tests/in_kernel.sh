#!/bin/bash
# Tries the kernel's WireGuard: the tests of tests/kernel that do not need a process, in a Debian cloud kernel under QEMU, which
# needs no KVM; then some of them with a process on one host and the kernel on the other. About a minute.
#
#   netoverlay/tunnel/tests/in_kernel.sh
#
# Needs an x86-64 Debian with qemu-system-x86, busybox-static, iproute2, util-linux and binutils; fetches the kernel package by
# apt and installs nothing. Leaves nothing behind but the kernel in target/wireguard, which the next run uses again.
# Exit status: 0 passed, 1 a test failed or did not end in time, 2 it could not be tried.
set -euo pipefail
cd "$(dirname "$0")/../../.."

say() { echo "in_kernel.sh: $*"; }
fail() { say "$2" >&2; exit "$1"; }

limit=300
tests=(streams_arrive a_wrong_key a_source without_a_tunnel drift_is_mended no_datagram a_connection)
mixed=(streams_arrive a_wrong_key no_datagram a_connection)
cache=${CARGO_TARGET_DIR:-target}/wireguard
mkdir -p "$cache"
cache=$(realpath "$cache")
[ "$(uname -m)" = x86_64 ] || fail 2 "this machine is $(uname -m); only x86-64 is supported"
for tool in qemu-system-x86_64 busybox apt-get dpkg strip strings ip bridge unshare dash; do
    command -v "$tool" > /dev/null || fail 2 "$tool is missing"
done
root=$(mktemp -d)
trap 'rm -rf "$root" "$root.cpio"' EXIT

find_kernel() {
    kernel=$(find "$cache/kernel/boot" -name 'vmlinuz-*' 2> /dev/null | head -n 1)
    [ -n "$kernel" ]
}
if ! find_kernel; then
    say "fetching a kernel"
    package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    (cd "$root" && apt-get -q download "$package" > "$cache/apt.log" 2>&1) || fail 2 "no kernel; see $cache/apt.log"
    rm -rf "$cache/kernel" "$cache/unpacking"
    dpkg -x "$root"/linux-image-*.deb "$cache/unpacking"
    rm "$root"/linux-image-*.deb
    mv "$cache/unpacking" "$cache/kernel"
    find_kernel || fail 2 "the kernel package has no vmlinuz"
fi

say "building the tests"
binary=$(cargo test --quiet --locked -p berth-tunnel --test kernel --no-run --message-format json-render-diagnostics |
    sed -n 's/.*"executable":"\([^"]*\/kernel-[^"]*\)".*/\1/p')
[ -x "$binary" ] || fail 2 "cargo built no test"

mkdir -p "$root"/{bin,dev/net,dev,proc,sys,lib,lib64,etc,run,tmp,modules}
install_program() {
    strip -o "$root/bin/$2" "$1" 2> /dev/null || cp "$1" "$root/bin/$2"
    { ldd "$1" || true; } | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\).*/\1/p' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -Ln "$library" "$root$library"
    done
}
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in mount insmod mkdir cat grep poweroff true sleep; do ln -s busybox "$root/bin/$applet"; done
for tool in ip bridge unshare; do install_program "$(command -v $tool)" $tool; done
install_program "$binary" kernel-tests
# Where the tests look for it.
program=$(dirname "$(dirname "$binary")")/berth-tunnel
install_program "$program" berth-tunnel
mkdir -p "$root$(dirname "$program")"
ln -s /bin/berth-tunnel "$root$program"
# Not busybox's: that one takes its own `ip` before the real one.
install_program "$(command -v dash)" sh

# Modules in the order of their needs, each once: what a module needs is written in it.
order=()
add_module() {
    local file needed
    for file in "${order[@]}"; do [ "$(basename "$file" | sed 's/\.ko.*//; y/-/_/')" != "$1" ] || return 0; done
    file=$(find "$cache/kernel/lib/modules" -name "${1//_/[-_]}.ko*" | head -n 1)
    [ -n "$file" ] || return 0
    case $file in *.xz) xz -dc "$file" > "$root/module"; ;; *) cp "$file" "$root/module" ;; esac
    for needed in $(strings "$root/module" | sed -n 's/^depends=//p' | tr ',-' ' _'); do add_module "$needed"; done
    case $file in *.xz) xz -dc "$file" > "$root/modules/$(basename "${file%.xz}")" ;; *) cp "$file" "$root/modules/" ;; esac
    order+=("${file%.xz}")
}
for module in veth vxlan tun wireguard; do add_module $module; done
rm -f "$root/module"
{
    echo '#!/bin/sh'
    echo 'export PATH=/bin RUST_BACKTRACE=0'
    echo 'mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp'
    echo 'mount -t tmpfs run /run; mkdir -p /run/netns; ip link set lo up'
    for file in "${order[@]}"; do echo "insmod /modules/$(basename "$file") || echo guest: no $(basename "$file")"; done
    echo "BERTH_TUNNEL_IN_KERNEL=ab /bin/kernel-tests --test-threads 1 ${tests[*]} 2>&1 | cat"
    echo "echo 'guest: now a process on host a'"
    echo "BERTH_TUNNEL_IN_KERNEL=b /bin/kernel-tests --test-threads 1 ${mixed[*]} 2>&1 | cat"
    echo 'echo "guest: done"; poweroff -f'
} > "$root/init"
chmod +x "$root/init"
(cd "$root" && find . | busybox cpio -o -H newc 2> /dev/null) > "$root.cpio"

say "running ${tests[*]}, at most $limit s"
timeout "$limit" qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 1024 -smp 2 -nographic -nic none -no-reboot \
    -kernel "$kernel" -initrd "$root.cpio" -append "console=ttyS0 loglevel=3 panic=-1" \
    < /dev/null > "$cache/log" 2>&1 || true
tr -d '\r' < "$cache/log" | grep -aE '^test |^guest: |panicked|left:|right:' || true
grep -aq '^guest: done' "$cache/log" || fail 1 "the guest did not come to its end; the whole output is in $cache/log"
grep -aqE "^test result: ok. ${#tests[@]} passed" "$cache/log" &&
    grep -aqE "^test result: ok. ${#mixed[@]} passed" "$cache/log" || fail 1 "failed; the whole output is in $cache/log"
say "passed in $SECONDS s"
