#!/bin/sh
# Makes the image berth/hello:1 from Debian's static busybox: hello-image.sh OUT.tar
set -eu
here=$(dirname "$0")
out=${1:?usage: hello-image.sh OUT.tar}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/srv/cgi-bin"
chmod 1777 "$root/tmp"
cp /bin/busybox "$root/bin/busybox"
for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
printf 'root:x:0:0:root:/:/bin/sh\nwww-data:x:33:33::/srv:/bin/false\n' > "$root/etc/passwd"
printf 'root:x:0:\nwww-data:x:33:\n' > "$root/etc/group"
cat > "$root/bin/serve" <<'SERVE'
#!/bin/sh
# Answers every request with the greeting and the replica's name.
printf '%s, replica %s\n' "${GREETING:-Hello}" "$(hostname)" > /srv/index.html
exec httpd -f -v -p "${PORT:-80}" -h /srv
SERVE
chmod 755 "$root/bin/serve"
"$here/../mkimage.sh" --root "$root" --tag berth/hello:1 --out "$out" --cmd '["serve"]' --ports '{"80/tcp":{}}' \
    --env '["PATH=/bin"]'
