#!/bin/sh
# remove_old.sh FOLDER NAME:TAG…: remove the archives in FOLDER, and of each image all tags but this one and `previous`.
set -eu
rm -rf "$1"
shift
for image; do
    docker image ls --format '{{.Repository}}:{{.Tag}}' "${image%:*}" | while read -r other; do
        case $other in
        "$image" | *:previous | *":<none>") ;;
        *) docker image rm "$other" 2>/dev/null || true ;; # what a container still uses stays
        esac
    done
done
