#!/bin/sh
# As in the public image: the extension stands in every database that is made later without another template.
set -eu
for database in postgres template1 ${POSTGRES_DB:-}; do
    psql -X -q -v ON_ERROR_STOP=1 --no-password --username "$POSTGRES_USER" -d "$database" \
        -c 'CREATE EXTENSION IF NOT EXISTS timescaledb'
done
