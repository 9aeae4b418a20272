#!/usr/bin/env bash
# Makes the secrets that compose.yaml and kubernetes/ need, in the folder [deploy/secrets]. Never overwrites a file there.
# Usage: make-secrets.sh [folder]     CONNECTOR_HOST: the host name in the certificate [localhost]
set -euo pipefail
folder=${1:-$(dirname "$0")/secrets}
host=${CONNECTOR_HOST:-localhost}

# Only the owner may enter the folder. Its files are readable for all: users inside the containers have other uids.
umask 022
mkdir -p "$folder" && chmod 700 "$folder"
cd "$folder"

make() { # name: writes standard input to that file, unless it exists
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
openssl rand -hex 32 | make commerce_authorization_key # these three are for the shopper's side
openssl rand -base64 32 | make commerce_signing_keys
openssl rand -base64 32 | make commerce_context_keys

if [ ! -e tls_key ]; then
  # Temporary: Amazon's gateway needs a certificate of a public authority.
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$host" \
    -addext "subjectAltName=DNS:$host" -addext basicConstraints=CA:FALSE \
    -keyout tls_key -out tls_certificate 2>/dev/null
  chmod 644 tls_key
  echo "made tls_key, tls_certificate: self-signed, for $host"
fi
