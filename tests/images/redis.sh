#!/bin/sh
# Finishes the redis image: redis.sh ROOT OUT MKIMAGE
set -eu
root=$1 out=$2 mkimage=$3
mkdir -p "$root/data"
chown 101:101 "$root/data"
exec "$mkimage" --root "$root" --tag berth-test/redis:1 --out "$out" --user redis --workdir /data \
    --volumes '{"/data":{}}' --ports '{"6379/tcp":{}}' \
    --cmd '["redis-server","--bind","0.0.0.0","--protected-mode","no","--dir","/data","--appendonly","yes"]'
