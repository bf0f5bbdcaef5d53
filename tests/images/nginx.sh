#!/bin/sh
# Finishes the nginx image: nginx.sh ROOT OUT MKIMAGE
set -eu
root=$1 out=$2 mkimage=$3
mkdir -p "$root/var/lib/nginx" "$root/var/log/nginx" "$root/usr/share/nginx/html" "$root/etc/nginx"
cat > "$root/etc/nginx/nginx.conf" <<'CONF'
worker_processes 1;
daemon off;
pid /run/nginx.pid;
error_log /dev/stderr;
events { worker_connections 512; }
http {
    access_log /dev/stdout;
    server {
        listen 80;
        root /usr/share/nginx/html;
        location / { try_files $uri $uri/index.html =404; }
    }
    include /etc/nginx/conf.d/*.conf;
}
CONF
mkdir -p "$root/etc/nginx/conf.d"
rm -rf "$root/etc/nginx/modules-enabled" "$root/etc/nginx/sites-enabled"
echo 'nginx in Berth' > "$root/usr/share/nginx/html/index.html"
exec "$mkimage" --root "$root" --tag berth-test/nginx:1 --out "$out" --cmd '["nginx"]' --ports '{"80/tcp":{}}' \
    --stop-signal SIGQUIT
