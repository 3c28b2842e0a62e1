#!/bin/sh
# Runs a command with the secrets that it can take from its environment only: for every variable PREFECT_…_FILE,
# PREFECT_… becomes the content of that file. So no secret is in compose.yaml, in an image or in `docker inspect`.
# Use: with-secrets.sh COMMAND [ARGUMENT…]
set -eu

for variable in $(env | sed -n 's/^\(PREFECT_[A-Z0-9_]*\)_FILE=.*/\1/p'); do
    file=$(printenv "${variable}_FILE")
    if [ ! -r "$file" ]; then
        echo "with-secrets.sh: $file, named by ${variable}_FILE, cannot be read" >&2
        exit 1
    fi
    value=$(cat "$file")
    if [ -z "$value" ]; then
        echo "with-secrets.sh: $file, named by ${variable}_FILE, is empty" >&2
        exit 1
    fi
    export "$variable=$value"
    unset "${variable}_FILE" value
done

exec "$@"
