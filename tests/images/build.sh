#!/bin/sh
# Makes test images of real software from Debian's packages: build.sh NAME OUT.tar, NAME one of nginx, redis, postgres, socat, iperf3.
# The packages are unpacked, never installed; what their maintainer scripts would do for a container is done here.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
name=${1:?usage: build.sh nginx|redis|postgres|socat|iperf3 OUT.tar}
out=${2:?usage: build.sh nginx|redis|postgres|socat|iperf3 OUT.tar}
cache=${BERTH_IMAGE_CACHE:-/var/cache/berth-test-images}

case $name in
nginx) packages="nginx-light" ;;
redis) packages="redis-server redis-tools" ;;
postgres) packages="postgresql-15" ;;
socat) packages="socat" ;;
iperf3) packages="iperf3" ;;
*) echo "build.sh: no recipe for $name" >&2; exit 2 ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root" "$cache/debs"

# Real packages that the wanted ones depend on, without what only an init system or a compiler needs.
closure() {
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "$@" | grep '^[a-z0-9]' |
        grep -vE '^(systemd|udev|perl|perl-.*|debconf.*|dpkg|adduser|passwd|ucf|init-system-helpers|cdebconf|libllvm.*|python3.*|libpython.*|dbus.*|mount|util-linux.*|postgresql-common|postgresql-client-common|ssl-cert|locales.*|lsb-base|procps|gawk|mawk|original-awk|iproute2|coreutils|gcc-.*|libperl.*|openssl|login|bsdutils|libpam-.*|libsystemd-shared|sysvinit-utils|apt.*|libapt.*|gpgv.*|debianutils|tar|gzip|bzip2|findutils|hostname|libdb5.3|base-.*|libc-bin|libsemanage.*|libdebconfclient.*)$'
}
available() {
    apt-cache policy "$@" | awk '/^[a-z0-9]/ { name = substr($1, 1, length($1) - 1) }
        /^  Candidate: / && $2 != "(none)" { print name }'
}
( cd "$cache/debs"
  wanted=$(available $(closure $packages | sort -u))
  missing=
  for package in $wanted; do
      ls "${package}"_*.deb > /dev/null 2>&1 || missing="$missing $package"
  done
  [ -z "$missing" ] || apt-get download -qq $missing > /dev/null ||
      { echo "build.sh: cannot download$missing" >&2; exit 1; }
  for package in $wanted; do
      ls -t "${package}"_*.deb | head -1 >> "$work/debs"
  done )
while read -r deb; do
    dpkg-deb --fsys-tarfile "$cache/debs/$deb" |
        tar -C "$root" -x --keep-directory-symlink --exclude=./usr/share/doc --exclude=./usr/share/man \
            --exclude=./usr/share/locale --exclude=./usr/share/info --exclude=./lib/systemd
done < "$work/debs"

# A shell and its friends, for entrypoints and health checks.
mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/run" "$root/root" "$root/var/log" "$root/var/lib"
chmod 1777 "$root/tmp"
cp /bin/busybox "$root/bin/busybox"
for applet in sh cat ls mkdir chown chmod sleep id wget env test true false echo cp rm ps kill head tail stat; do
    [ -e "$root/bin/$applet" ] || [ -e "$root/usr/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
done
cat > "$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/bin/false
redis:x:101:101:redis:/var/lib/redis:/bin/false
postgres:x:102:102:PostgreSQL:/var/lib/postgresql:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
PASSWD
cat > "$root/etc/group" <<'GROUP'
root:x:0:
tty:x:5:
adm:x:4:
www-data:x:33:
redis:x:101:
postgres:x:102:
nogroup:x:65534:
GROUP
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"

"$here/$name.sh" "$root" "$out" "$here/../../deploy/mkimage.sh"
