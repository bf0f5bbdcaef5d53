#!/bin/bash
# Runs the runtime's tests on a pure cgroup v2 machine: a Debian cloud kernel under QEMU, which needs no KVM.
#
#   agent/tests/cgroup_v2.sh              every test of runtime_run.rs and runtime_life.rs; several minutes
#   agent/tests/cgroup_v2.sh --short      those that decide: limits, devices, out of memory, exec; what tests/run.sh runs
#   agent/tests/cgroup_v2.sh NAME...      those whose names contain NAME
#
# Needs an x86-64 Debian with qemu-system-x86, busybox-static and binutils; fetches the kernel package by apt and
# installs nothing. Leaves nothing behind but the kernel in target/cgroup-v2, which the next run uses again.
# Exit status: 0 passed, 1 a test failed or did not end in time, 2 it could not be tried.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { echo "cgroup_v2.sh: $*"; }
fail() { say "$2" >&2; exit "$1"; }

limit=2400
tests=("$@")
if [ "${1:-}" = --short ]; then
    limit=420
    tests=(output_and_exit every_limit_reaches limits_of_memory devices_cannot a_container_sees exec_is_confined)
fi
cache=${CARGO_TARGET_DIR:-target}/cgroup-v2
mkdir -p "$cache"
cache=$(realpath "$cache")

[ "$(uname -m)" = x86_64 ] || fail 2 "this machine is $(uname -m); only x86-64 is supported"
for tool in qemu-system-x86_64 busybox apt-get dpkg strip setpriv; do
    command -v "$tool" > /dev/null || fail 2 "$tool is missing; apt-get install qemu-system-x86 busybox-static binutils"
done

# The image of the guest is put together here.
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
trap 'exit 1' INT TERM

# The kernel: $kernel and the module $overlay, from the newest cloud kernel of this Debian.
download() {
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 2> /dev/null | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    [ -n "$package" ] || return 1
    (cd "$root" && timeout 300 apt-get -q -o Acquire::Retries=2 download "$package" > "$cache/apt.log" 2>&1)
}
find_kernel() {
    kernel=$(find "$cache/kernel/boot" -name 'vmlinuz-*' 2> /dev/null | head -n 1)
    overlay=$(find "$cache/kernel" -name 'overlay.ko*' 2> /dev/null | head -n 1)
    [ -n "$kernel" ] && [ -n "$overlay" ]
}
if ! find_kernel; then
    say "fetching a kernel"
    # A second try with fresh lists: those of a new or old machine may lack the package.
    download || { apt-get -q update > "$cache/apt.log" 2>&1 && download; } ||
        fail 2 "no kernel: apt-get download of linux-image-cloud-amd64's image failed; see $cache/apt.log"
    # Unpacked beside and then moved, so that an interrupted run leaves no half.
    rm -rf "$cache/kernel" "$cache/unpacking"
    dpkg -x "$root"/linux-image-*.deb "$cache/unpacking"
    rm "$root"/linux-image-*.deb
    mv "$cache/unpacking" "$cache/kernel"
    find_kernel || fail 2 "the kernel package has no vmlinuz or no overlay.ko"
fi

# As `cargo build --workspace --all-targets` builds them: what that has built is used again.
say "building the tests"
binaries=$(cargo test --quiet --locked --workspace --test runtime_run --test runtime_life --no-run \
    --message-format json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\/runtime_[^"]*\)".*/\1/p')
[ "$(wc -w <<< "$binaries")" = 2 ] || fail 2 "cargo built no runtime_run and runtime_life: $binaries"

mkdir -p "$root"/{bin,dev,proc,sys,lib,lib64,etc,root,new}
# The program $1 as /bin/$2, with the libraries it needs.
install_program() {
    strip -o "$root/bin/$2" "$1" 2> /dev/null || cp "$1" "$root/bin/$2"
    { ldd "$1" || true; } | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\).*/\1/p' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -Ln "$library" "$root$library"
    done
}
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in sh mount insmod mkdir cat echo poweroff switch_root cp grep; do ln -s busybox "$root/bin/$applet"; done
install_program "$(command -v setpriv)" setpriv
for binary in $binaries; do
    name=$(basename "$binary")
    install_program "$binary" "${name%-*}"
done
case $overlay in
*.xz) xz -dc "$overlay" > "$root/lib/overlay.ko" ;;
*) cp "$overlay" "$root/lib/overlay.ko" ;;
esac
echo 'root:x:0:0::/root:/bin/sh' > "$root/etc/passwd"
: > "$root/etc/resolv.conf"

# The first stage leaves the initial root, which pivot_root refuses to leave.
cat > "$root/init" << 'STAGE'
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
insmod /lib/overlay.ko
mount -t tmpfs -o mode=755 root /new
cp -a /bin /lib /lib64 /etc /root /second /new/
mkdir -p /new/proc /new/sys /new/dev /new/tmp
for dir in proc sys dev; do mount --move /$dir /new/$dir; done
exec switch_root /new /second
STAGE
cat > "$root/second" << STAGE
#!/bin/sh
export PATH=/bin RUST_BACKTRACE=0
mount -t cgroup2 cgroup /sys/fs/cgroup; mount -t tmpfs tmp /tmp; mkdir -p /dev/shm
for binary in /bin/runtime_*; do \$binary --test-threads 1 ${tests[*]} 2>&1 | cat; done
# By path: busybox has a setpriv of its own.
less="/bin/setpriv --bounding-set -sys_resource --inh-caps -sys_resource"
echo "guest: without CAP_SYS_RESOURCE"
ulimit -l 131072
\$less /bin/runtime_run --test-threads 1 output_and_exit devices_cannot 2>&1 | cat
ulimit -l 8192
\$less /bin/runtime_run --exact output_and_exit_code_arrive_and_nothing_is_left 2>&1 | grep -q 'start it with LimitMEMLOCK' &&
    echo "guest: too little locked memory is told"
echo "guest: done"
poweroff -f
STAGE
chmod +x "$root/init" "$root/second"
# Not compressed: the guest would take longer to unpack it than to read it.
initrd=$root.cpio
trap 'rm -rf "$root" "$initrd"' EXIT
(cd "$root" && find . | busybox cpio -o -H newc 2> /dev/null) > "$initrd"

say "running ${tests[*]:-every test}, at most $limit s"
timeout "$limit" qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 2048 -smp 2 -nographic -nic none -no-reboot \
    -kernel "$kernel" -initrd "$initrd" -append "console=ttyS0 loglevel=3 panic=-1 cgroup_no_v1=all" \
    < /dev/null > "$cache/log" 2>&1 || true
tr -d '\r' < "$cache/log" | grep -aE '^test |^guest: |panicked|left:|right:' || true
passed=$(grep -ac '^test result: ok' "$cache/log" || true)
failed=$(grep -acE '^test (result: FAILED|.* FAILED)' "$cache/log" || true)
if ! grep -aq '^guest: done' "$cache/log"; then
    tail -n 20 "$cache/log" >&2
    fail 1 "the guest did not come to its end within $limit s; the whole output is in $cache/log"
fi
grep -aq '^guest: too little locked memory is told' "$cache/log" || failed=1
if [ "$failed" != 0 ] || [ "$passed" != 3 ]; then
    fail 1 "failed; the whole output is in $cache/log"
fi
say "passed in $SECONDS s"
