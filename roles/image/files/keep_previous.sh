#!/bin/sh
# keep_previous.sh NAME:TAG: give the newest image of that name the tag `previous`, and drop the one that had it.
set -eu
name=${1%:*}
newest=$(docker image ls --no-trunc --format '{{.Tag}} {{.ID}}' "$name" | awk '$1 != "previous" && $1 != "<none>" {print $2; exit}')
before=$(docker image ls --no-trunc --quiet "$name:previous")
[ -n "$newest" ] && [ "$newest" != "$before" ] || exit 0
docker tag "$newest" "$name:previous"
echo "$name:previous is $newest"
# A container may still hold it, or another name.
if [ -n "$before" ]; then docker image rm "$before" >/dev/null 2>&1 || true; fi
