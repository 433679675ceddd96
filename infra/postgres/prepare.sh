#!/bin/sh
# Makes the four roles with passwords of their own, the schema penstock, and what each role may do in it.
#
#   infra/postgres/prepare.sh OUT [PLACE]
#
# DATABASE_URL  of an administrator of the database, best without a password: psql asks, or finds it in ~/.pgpass
# OUT           gets owner.database-url, worker.database-url, scaler.database-url and reader.database-url, readable by you
#               alone; a role whose file is there keeps its password, so running it again changes nothing
# PLACE         host:port/database as the programs reach it; what follows the @ in DATABASE_URL when left out
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?usage: prepare.sh OUT [PLACE]}
: "${DATABASE_URL:?}"
place=${2:-${DATABASE_URL#*@}}
case $place in
*://*)
    echo "prepare.sh: DATABASE_URL names no user@host, so say as the second argument where the programs reach the database: host:port/database" >&2
    exit 2
    ;;
esac
umask 077
mkdir -p "$out"

administrator() { psql "$DATABASE_URL" -q -v ON_ERROR_STOP=1 "$@"; }

administrator -f "$here/roles.sql"
for role in owner worker scaler reader; do
    file=$out/$role.database-url
    [ ! -s "$file" ] || continue
    password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    # echo is part of the shell: a password on a command line is everybody's to read.
    echo "ALTER ROLE penstock_$role PASSWORD '$password';" | administrator
    echo "postgres://penstock_$role:$password@$place" >"$file"
done

# As the owner, whose password psql reads from a file.
owner=$out/owner.database-url
DATABASE_URL_FILE=$owner importer migrate
sed 's|^[a-z]*://\([^:]*\):\([^@]*\)@.*|*:*:*:\1:\2|' "$owner" >"$out/owner.pgpass"
# And not from a variable that has the administrator's.
unset PGPASSWORD
PGPASSFILE=$out/owner.pgpass psql "postgres://penstock_owner@$place" -q -v ON_ERROR_STOP=1 -f "$here/grants.sql"
rm "$out/owner.pgpass"
