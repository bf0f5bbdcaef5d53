#!/bin/sh
# Finishes the iperf3 image: iperf3.sh ROOT OUT MKIMAGE
set -eu
root=$1 out=$2 mkimage=$3
exec "$mkimage" --root "$root" --tag berth-test/iperf3:1 --out "$out" --cmd '["iperf3","-s"]' --ports '{"5201/tcp":{}}' \
    --env '["PATH=/usr/bin:/bin"]'
