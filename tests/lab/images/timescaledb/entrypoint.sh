#!/bin/bash
# What the public image's entrypoint does, as far as it can be relied on: at the first start a cluster is made from
# POSTGRES_USER, POSTGRES_PASSWORD(_FILE), POSTGRES_DB, POSTGRES_INITDB_ARGS, and the files of
# /docker-entrypoint-initdb.d are run in it, unseen from outside; every later start is `postgres` alone.
set -euo pipefail

USER_NAME=${POSTGRES_USER:-postgres}
DATABASE=${POSTGRES_DB:-$USER_NAME}

fail() {
    echo "entrypoint: $*" >&2
    exit 1
}

password() {
    [[ -z ${POSTGRES_PASSWORD:-} || -z ${POSTGRES_PASSWORD_FILE:-} ]] \
        || fail "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set; give one"
    if [[ -n ${POSTGRES_PASSWORD_FILE:-} ]]; then
        [[ -r $POSTGRES_PASSWORD_FILE ]] || fail "$POSTGRES_PASSWORD_FILE can't be read by uid $(id -u)"
        cat "$POSTGRES_PASSWORD_FILE"
    else
        printf '%s' "${POSTGRES_PASSWORD:-}"
    fi
}

make_cluster() {
    local secret
    secret=$(password)
    local method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    [[ -n $secret || $method == trust ]] || fail "a first start needs POSTGRES_PASSWORD_FILE (or POSTGRES_PASSWORD)"
    local options=(--username="$USER_NAME" --auth-local=trust --auth-host="$method")
    # split at spaces, as the public image does: the variable holds several options
    # shellcheck disable=SC2206
    options+=(${POSTGRES_INITDB_ARGS:-})
    if [[ -n $secret ]]; then
        initdb "${options[@]}" --pwfile=<(printf '%s\n' "$secret")
    else
        initdb "${options[@]}"
    fi
    printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
}

run_files() {
    local sql=(psql -X -v ON_ERROR_STOP=1 --no-password --username "$USER_NAME")
    local file
    PGPASSWORD=$(password)
    export PGPASSWORD
    if [[ $DATABASE != postgres ]]; then
        "${sql[@]}" -d postgres -v name="$DATABASE" <<< 'CREATE DATABASE :"name";'
    fi
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh) if [[ -x $file ]]; then "$file"; else . "$file"; fi ;;
            *.sql) "${sql[@]}" -d "$DATABASE" -f "$file" ;;
            *.sql.gz) gunzip -c "$file" | "${sql[@]}" -d "$DATABASE" ;;
        esac
    done
    unset PGPASSWORD
}

first_start() {
    make_cluster
    # on the socket alone, until everything is in it; the options of the real start hold here too
    pg_ctl -D "$PGDATA" -w -o "$(printf ' %q' "${@:2}") -c listen_addresses=''" start
    run_files
    pg_ctl -D "$PGDATA" -m fast -w stop
}

[[ ${1:-} != -* ]] || set -- postgres "$@"
if [[ $1 == postgres ]]; then
    [[ $(id -u) != 0 ]] || exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
    export PGUSER=${PGUSER:-$USER_NAME} POSTGRES_USER=$USER_NAME POSTGRES_DB=$DATABASE
    mkdir -p -m 0700 "$PGDATA"
    [[ -s $PGDATA/PG_VERSION ]] || first_start "$@"
    unset PGUSER POSTGRES_PASSWORD
fi
exec "$@"
