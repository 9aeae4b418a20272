#!/usr/bin/env bash
# Makes the secrets of compose.yaml that are not there yet, in deploy/secrets or the folder given. What is there stays.
# Usage: make-secrets.sh [folder]     CONNECTOR_HOST=name in the certificate [localhost]
set -euo pipefail
folder=${1:-$(dirname "$0")/secrets}
host=${CONNECTOR_HOST:-localhost}

# Nobody else gets into the folder. The files are for users inside the containers, who have numbers of their own.
umask 022
mkdir -p "$folder" && chmod 700 "$folder"
cd "$folder"

make() { # name: from standard input, unless it is there
  if [ -e "$1" ]; then cat >/dev/null; else cat >"$1.new" && mv "$1.new" "$1" && echo "made $1"; fi
}

openssl rand -base64 32 | make hash_key
openssl rand -hex 32 | make management_token
openssl rand -hex 32 | make postgres_password
openssl rand -hex 32 | make database_password
echo "postgres://connector:$(<database_password)@postgres/connector" | make database_url
echo "requirepass $(openssl rand -hex 32)" | make valkey_conf
echo "redis://:$(cut -d' ' -f2 valkey_conf)@valkey/0" | make rate_limit_url
echo "\"$(openssl rand -hex 32)\" 1;" | make amazon_api_keys
openssl rand -hex 32 | make commerce_authorization_key # these three for the shopper's side
openssl rand -base64 32 | make commerce_signing_keys
openssl rand -base64 32 | make commerce_context_keys

if [ ! -e tls_key ]; then
  # A stand-in, until there is a certificate that Amazon's gateway believes.
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$host" \
    -addext "subjectAltName=DNS:$host" -addext basicConstraints=CA:FALSE \
    -keyout tls_key -out tls_certificate 2>/dev/null
  chmod 644 tls_key
  echo "made tls_key, tls_certificate: signed by itself, for $host"
fi
