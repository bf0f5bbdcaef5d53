#!/bin/sh
# Finishes the socat image: socat.sh ROOT OUT MKIMAGE. Its command answers each TCP connection and each datagram to port 80, of
# both address families, with "<host name> <client's address>".
set -eu
root=$1 out=$2 mkimage=$3
for applet in hostname nc nslookup ip; do
    [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
done
cat > "$root/bin/who" <<'WHO'
#!/bin/sh
echo "$(hostname) $SOCAT_PEERADDR"
WHO
cat > "$root/bin/answer" <<'ANSWER'
#!/bin/sh
socat -T 5 UDP4-RECVFROM:80,fork EXEC:who &
socat -T 5 UDP6-RECVFROM:80,fork,ipv6only=1 EXEC:who 2> /dev/null &
socat -T 5 TCP6-LISTEN:80,fork,reuseaddr,backlog=1024,ipv6only=1 EXEC:who 2> /dev/null &
exec socat -T 5 TCP4-LISTEN:80,fork,reuseaddr,backlog=1024 EXEC:who
ANSWER
chmod 755 "$root/bin/who" "$root/bin/answer"
exec "$mkimage" --root "$root" --tag berth-test/socat:1 --out "$out" --cmd '["answer"]' --ports '{"80/tcp":{},"80/udp":{}}' \
    --env '["PATH=/usr/bin:/bin"]'
