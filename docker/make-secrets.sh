#!/bin/sh
# Makes the secrets that compose.yaml names, in docker/secrets; those that exist stay as they are.
# Use: docker/make-secrets.sh [FOLDER]
set -eu

folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
# The containers run as users that the host need not know: the files are readable, and the folder is closed.
chmod 0700 "$folder"
umask 0333

keep() { # NAME, the content on standard input
    if [ -e "$folder/$1" ]; then
        echo "$folder/$1 is there already"
        return
    fi
    cat > "$folder/$1"
    echo "$folder/$1 made"
}

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

random | keep neo4j_password
printf 'neo4j/%s' "$(cat "$folder/neo4j_password")" | keep neo4j_auth
random | keep postgres_password
printf 'graph2image:%s' "$(random)" | keep prefect_auth
random | keep explorer_token
