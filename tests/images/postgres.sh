#!/bin/sh
# Finishes the postgres image: postgres.sh ROOT OUT MKIMAGE
set -eu
root=$1 out=$2 mkimage=$3
mkdir -p "$root/var/lib/postgresql/data" "$root/var/run/postgresql" "$root/run/postgresql" "$root/docker"
chown -R 102:102 "$root/var/lib/postgresql" "$root/run/postgresql"
[ -L "$root/var/run" ] || chown -R 102:102 "$root/var/run/postgresql"
chmod 700 "$root/var/lib/postgresql/data"
cat > "$root/docker/entrypoint.sh" <<'ENTRY'
#!/bin/sh
# Makes the database on first start, then runs the server in the foreground.
set -eu
data=/var/lib/postgresql/data
if [ ! -s "$data/PG_VERSION" ]; then
    password=$(mktemp)
    printf '%s' "${POSTGRES_PASSWORD:-postgres}" > "$password"
    initdb -D "$data" -U postgres --auth=scram-sha-256 --auth-local=trust --locale=C --encoding=UTF8 \
        --pwfile="$password" --no-sync
    rm -f "$password"
    echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
fi
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
ENTRY
chmod 755 "$root/docker/entrypoint.sh"
ln -s busybox "$root/bin/mktemp" 2>/dev/null || true
exec "$mkimage" --root "$root" --tag berth-test/postgres:1 --out "$out" --user postgres \
    --entrypoint '["/docker/entrypoint.sh"]' --volumes '{"/var/lib/postgresql/data":{}}' \
    --env '["PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin","LC_ALL=C"]' --ports '{"5432/tcp":{}}' --stop-signal SIGINT
