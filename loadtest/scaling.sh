#!/usr/bin/env bash
# What one replica costs on Kafka, measured against a real broker on loopback that is started
# for it and gone afterwards. `make scaling` builds what it needs and calls this.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${1:?usage: scaling.sh CACHE (folder for the jars of Kafka) [flags of loadtest scaling]}
shift
port=19392
data=$(mktemp -d "${TMPDIR:-/tmp}/vigil-scaling-broker-XXXXXX")

kafka() { bin/kafka --cache "$cache" --port "$port" --dir "$data/kafka" "$@"; }

finish() {
  trap - EXIT INT TERM
  kafka stop >/dev/null || kafka kill >/dev/null || true
  rm -rf "$data"
}
trap finish EXIT
trap 'exit 130' INT TERM

kafka start
kafka status >/dev/null || exit 0 # it has said why there is none
pid=$(cat "$data/kafka/pid")
bin/loadtest scaling --broker-pid "$pid" --brokers "127.0.0.1:$port" --pdp bin/pdp "$@"
