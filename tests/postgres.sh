# A PostgreSQL server of our own in a temporary folder, on a socket there; FAR_MESH_TEST_POSTGRES is its URL. Calls what it is
# told and stops the server again. One that is given is used as it is.
with_postgres() {
    [ -z "${FAR_MESH_TEST_POSTGRES:-}" ] || { "$@"; return; }
    export FAR_MESH_TEST_PG_BIN=${FAR_MESH_TEST_PG_BIN:-$(postgres_programs)}
    [ -x "$FAR_MESH_TEST_PG_BIN/initdb" ] || {
        echo "$0: no PostgreSQL server here: install one (Debian: postgresql) or set FAR_MESH_TEST_PG_BIN to the folder of initdb" >&2
        return 1
    }
    local root code=0 as=()
    root=$(mktemp -d /tmp/far-pg.XXXXXX)
    # The server refuses to run as root.
    if [ "$(id -u)" = 0 ]; then
        chown nobody "$root"
        as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    fi
    local pg=("${as[@]}" env -C "$root")
    "${pg[@]}" "$FAR_MESH_TEST_PG_BIN/initdb" -D "$root/data" -U far -A trust -E UTF8 --locale=C >"$root.log" 2>&1 \
        && "${pg[@]}" "$FAR_MESH_TEST_PG_BIN/pg_ctl" -D "$root/data" -l "$root/log" -w -t 60 \
            -o "-c listen_addresses='' -c unix_socket_directories='$root' -c fsync=on -c max_connections=300" start >>"$root.log" 2>&1 || {
        cat "$root.log" "$root/log" >&2
        return 1
    }
    FAR_MESH_TEST_POSTGRES="postgres://far@localhost/postgres?host=$root" "$@" || code=$?
    "${pg[@]}" "$FAR_MESH_TEST_PG_BIN/pg_ctl" -D "$root/data" -m fast -w stop >>"$root.log" 2>&1 || code=1
    rm -rf "$root" "$root.log"
    return $code
}

# The folder of the newest server that Debian's packages or the PATH hold.
postgres_programs() {
    local found
    found=$(command -v initdb) || found=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -1)
    # What is in the PATH may be a link; the server's other programs lie beside what it points to.
    dirname "$(readlink -f "${found:-/nowhere/initdb}")"
}
