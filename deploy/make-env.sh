#!/bin/sh
# Writes deploy/.env with fresh secrets, for compose.yaml. Once: it replaces none
# that are there, since NATS, edges and workers would no longer know each other.
set -eu
cd "$(dirname "$0")"
file=${1:-.env}
if [ -e "$file" ]; then
    echo "$file is there already: remove it to have new secrets" >&2
    exit 1
fi

# Begins with a letter: NATS would read 12345 or 1e5 as a number.
secret() { printf 's%s' "$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')"; }

umask 077
cat >"$file" <<END
# Secrets of compose.yaml, made by make-env.sh. Keep it out of version control.
PARLEY_NATS_EDGE_PASSWORD=$(secret)
PARLEY_NATS_WORKER_PASSWORD=$(secret)
PARLEY_NATS_OPERATOR_PASSWORD=$(secret)
PARLEY_NATS_SERVICE_PASSWORD=$(secret)
PARLEY_NATS_ADMIN_PASSWORD=$(secret)
# What the NATS servers know each other by.
PARLEY_NATS_ROUTES_PASSWORD=$(secret)
# The key of HS256 tokens: whoever has it can be anybody.
PARLEY_AUTH_SECRET=$(secret)

# Where HAProxy listens on this machine.
PARLEY_PUBLIC=0.0.0.0:8080
# true: the web page at /, which gives anybody a token for any name. To look at it only.
PARLEY_DEMO_PAGE=false
END
echo "wrote $file"
