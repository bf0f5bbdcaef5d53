#!/bin/sh
# Packs a directory as a one-layer image in a docker-archive tar, which `berth image load` and `docker load` read.
# Needs only tar, sha256sum and sed.
set -eu

usage() {
    cat <<'USAGE'
usage: mkimage.sh --root DIR --tag NAME:TAG --out FILE [option...]
  --cmd JSON          default arguments, e.g. '["sh"]'
  --entrypoint JSON   program to run, e.g. '["/entrypoint.sh"]'
  --env JSON          e.g. '["PATH=/bin"]'
  --user USER         e.g. www-data
  --workdir DIR       e.g. /srv
  --volumes JSON      e.g. '{"/data":{}}'
  --ports JSON        e.g. '{"80/tcp":{}}'
  --stop-signal NAME  e.g. SIGQUIT
USAGE
    exit 2
}

root= tag= out= cmd=null entrypoint=null user= workdir= volumes=null ports=null stop_signal=
env='["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]'
while [ $# -gt 1 ]; do
    case $1 in
    --root) root=$2 ;;
    --tag) tag=$2 ;;
    --out) out=$2 ;;
    --cmd) cmd=$2 ;;
    --entrypoint) entrypoint=$2 ;;
    --env) env=$2 ;;
    --user) user=$2 ;;
    --workdir) workdir=$2 ;;
    --volumes) volumes=$2 ;;
    --ports) ports=$2 ;;
    --stop-signal) stop_signal=$2 ;;
    *) usage ;;
    esac
    shift 2
done
[ $# -eq 0 ] && [ -n "$root" ] && [ -n "$tag" ] && [ -n "$out" ] || usage

case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) arch=$(uname -m) ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A fixed time and order make the same directory the same image.
tar -C "$root" --sort=name --mtime=@0 --numeric-owner --xattrs -cf "$work/layer.tar" .
diff_id=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
cat > "$work/config.json" <<JSON
{"architecture":"$arch","os":"linux","created":"1970-01-01T00:00:00Z",
"config":{"Cmd":$cmd,"Entrypoint":$entrypoint,"Env":$env,"User":"$user","WorkingDir":"$workdir",
"Volumes":$volumes,"ExposedPorts":$ports,"StopSignal":"$stop_signal"},
"rootfs":{"type":"layers","diff_ids":["sha256:$diff_id"]},
"history":[{"created":"1970-01-01T00:00:00Z","created_by":"mkimage.sh"}]}
JSON
config=$(sha256sum "$work/config.json" | cut -d' ' -f1)
mv "$work/config.json" "$work/$config.json"
printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["layer.tar"]}]\n' "$config" "$tag" > "$work/manifest.json"
tar -C "$work" -cf "$out.part" manifest.json "$config.json" layer.tar
mv "$out.part" "$out"
