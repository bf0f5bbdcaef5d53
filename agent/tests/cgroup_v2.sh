#!/bin/sh
# Runs the runtime's tests on a pure cgroup v2 machine: a Debian cloud kernel under QEMU, without KVM.
#
#   agent/tests/cgroup_v2.sh [TEST...]     names as for `cargo test`; a choice that covers v2 when none is given
#
# Needs qemu-system-x86, busybox-static, and apt (to fetch the kernel package; nothing is installed). Takes a
# few minutes. Leaves nothing behind but the kernel in target/cgroup-v2, which the next run uses again.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
cache="$here/target/cgroup-v2"
tests=${*:-output_and_exit devices_cannot limits_of_memory a_container_sees exec_is_confined a_killed_shim many_at_once}
for tool in qemu-system-x86_64 busybox apt-get dpkg; do
  command -v "$tool" >/dev/null || { echo "cgroup_v2.sh: $tool is missing" >&2; exit 2; }
done

echo "cgroup_v2.sh: building the tests"
binaries=$(cd "$here" && cargo test -q -p berth-agent --test runtime_run --test runtime_life --no-run --message-format json |
  sed -n 's/.*"executable":"\([^"]*runtime_[^"]*\)".*/\1/p')

mkdir -p "$cache"
kernel=$(ls "$cache"/kernel/boot/vmlinuz-* 2>/dev/null | head -n 1 || true)
if [ -z "$kernel" ]; then
  echo "cgroup_v2.sh: fetching a kernel"
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)/\1/p' | head -n 1)
  (cd "$cache" && apt-get download "$package" >/dev/null && dpkg -x "$package"_*.deb kernel && rm "$package"_*.deb)
  kernel=$(ls "$cache"/kernel/boot/vmlinuz-* | head -n 1)
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/bin "$root"/dev "$root"/proc "$root"/sys "$root"/lib "$root"/lib64 "$root"/etc "$root"/root "$root"/new
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in sh mount insmod mkdir cat echo poweroff switch_root cp grep; do ln -s busybox "$root/bin/$applet"; done
for binary in $binaries; do
  name=$(basename "$binary" | sed 's/-[0-9a-f]*$//')
  strip -o "$root/bin/$name" "$binary"
  ldd "$binary" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\).*/\1/p' | while read -r library; do
    mkdir -p "$root$(dirname "$library")" && cp -L "$library" "$root$library"
  done
done
cp "$(find "$cache/kernel" -name overlay.ko | head -n 1)" "$root/lib/overlay.ko"
echo 'root:x:0:0::/root:/bin/sh' > "$root/etc/passwd"
: > "$root/etc/resolv.conf"

# The first stage leaves the initial root, which pivot_root refuses to leave.
cat > "$root/init" <<'STAGE'
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
cat > "$root/second" <<STAGE
#!/bin/sh
export PATH=/bin RUST_BACKTRACE=0
mount -t cgroup2 cgroup /sys/fs/cgroup; mount -t tmpfs tmp /tmp; mkdir -p /dev/shm
for binary in /bin/runtime_*; do \$binary --test-threads 1 $tests 2>&1 | cat; done
poweroff -f
STAGE
chmod +x "$root/init" "$root/second"
(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1 > "$cache/initrd.gz")

echo "cgroup_v2.sh: running: $tests"
timeout 1800 qemu-system-x86_64 -M q35 -cpu max -m 1500 -smp 2 -nographic -no-reboot -kernel "$kernel" \
  -initrd "$cache/initrd.gz" -append "console=ttyS0 quiet panic=-1 cgroup_no_v1=all" < /dev/null > "$cache/log" 2>&1 || true
grep -aE '^test |panicked|left:|right:' "$cache/log" || true
passed=$(grep -ac '^test result: ok' "$cache/log" || true)
failed=$(grep -ac '^test result: FAILED' "$cache/log" || true)
if [ "$failed" -ne 0 ] || [ "$passed" -ne 2 ]; then
  echo "cgroup_v2.sh: failed; the whole output is in $cache/log" >&2
  exit 1
fi
echo "cgroup_v2.sh: passed"
