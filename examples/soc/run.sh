#!/usr/bin/env bash
# One engine, an identity provider that pushes security events to it, and tokens for a SIEM, an
# analyst and a duty officer, on loopback, until Ctrl-C. Everything is made anew each time, below ./run.
# `make run-soc` builds bin/pdp and bin/idp and calls this.
set -euo pipefail
cd "$(dirname "$0")/../.."
data=$PWD/run/soc
pids=()

finish() {
  trap - EXIT INT TERM
  for pid in "${pids[@]}"; do kill -INT "$pid" 2>/dev/null || true; done
  wait
}

rm -rf "$data"
mkdir -p -m 700 "$data"
trap finish EXIT
trap 'exit 130' INT TERM

config=$(<examples/soc/vigil.yaml)
config=${config//@examples@/$PWD/examples}
for name in gateway siem analyst duty transmitter; do
  hash=$(bin/pdp token new --out "$data/$name.token")
  config=${config//@$name@/${hash##* }}
done
config=${config//@idp@/http://127.0.0.1:7079}
bin/pdp token new --out "$data/manage.token" >"$data/manage.hash"
printf '%s\n' "$config" >"$data/vigil.yaml"

# In groups of their own, so that Ctrl-C comes to this script alone, which ends them.
set -m
bin/idp serve --dir "$data/idp" --manage-token-file "$data/manage.token" >"$data/idp.log" 2>&1 &
pids+=($!)
bin/pdp serve --config "$data/vigil.yaml" --seed examples/invoice/registrations.json \
  --logging-level warn --address-file "$data/addresses.json" >"$data/pdp.log" 2>&1 &
pids+=($!)
set +m
until [[ -e $data/addresses.json ]]; do
  for pid in "${pids[@]}"; do
    if ! kill -0 "$pid" 2>/dev/null; then
      cat "$data"/*.log >&2
      exit 1
    fi
  done
  sleep 0.1
done

cat <<EOF

The engine decides on 127.0.0.1:7070 and takes signals on 127.0.0.1:7071; what it prints is
in $data/pdp.log. examples/soc/README.md tells the story. In another shell:

  T=run/soc                    # each has a token of its own there

  # The gateway asks: denied, and source_silent. Nobody has heard the identity provider yet.
  bin/pdp decide examples/invoice/requests/pay.json --token-file \$T/gateway.token
  export VIGIL_TOKEN_FILE=\$T/analyst.token
  bin/pdp status
  curl -s 127.0.0.1:7071/readyz; curl -s '127.0.0.1:7071/readyz?strict'

  # Its stream is made, and verified end to end: it is heard. Ask again: allowed.
  bin/pdp stream create idp --config \$T/vigil.yaml
  bin/pdp stream verify idp --config \$T/vigil.yaml --wait http://127.0.0.1:7071 --wait-token-file \$T/analyst.token

  # The SIEM has an anomaly, as a CloudEvent. Ask again: denied, and quarantined.
  curl -s 127.0.0.1:7071/v1/signals -H "authorization: Bearer \$(cat \$T/siem.token)" -H 'content-type: application/json' \\
    -H 'ce-specversion: 1.0' -H "ce-id: \$(date +%s%N)" -H 'ce-source: https://siem.example.com/' -H 'ce-type: vigil.signal.quarantine' \\
    -H "ce-time: \$(date -u +%FT%TZ)" -H 'ce-subject: agent:invoice-agent' -d '{"reason":"beaconing"}'

  # The analyst looks, and ends it.
  bin/pdp entity list --held
  bin/pdp entity show agent:invoice-agent
  bin/pdp explain examples/invoice/requests/pay.json
  bin/pdp respond invoice-agent approval-only --action pay
  bin/pdp respond invoice-agent undo
  bin/pdp signal release agent:invoice-agent --reason 'a backup' --all-sources

  # The identity provider ends the session, by a signed event of CAEP. Ask again: revoked.
  bin/idp say --dir \$T/idp --token-file \$T/transmitter.token session-revoked session:s-1 'reason_admin=impossible travel'

  # The identity provider pauses the stream. Four minutes after it was heard last it is silent:
  # denied again. The duty officer lets agents go on for a while, and takes that back.
  bin/pdp stream pause idp --config \$T/vigil.yaml --reason maintenance
  sed s/s-1/s-2/ examples/invoice/requests/pay.json >\$T/pay-2.json
  bin/pdp decide \$T/pay-2.json --token-file \$T/gateway.token
  bin/pdp signal waive source:issuer:idp --for 1h --reason maintenance --id CHG-9 --token-file \$T/duty.token
  bin/pdp entity list
  bin/pdp explain \$T/pay-2.json
  bin/pdp signal undo CHG-9 --token-file \$T/duty.token
  bin/pdp stream enable idp --config \$T/vigil.yaml   # the engine has it verified within a minute

Ctrl-C ends everything.
EOF
while true; do
  for pid in "${pids[@]}"; do
    if ! kill -0 "$pid" 2>/dev/null; then
      echo "a program has ended by itself; see $data" >&2
      exit 1
    fi
  done
  sleep 1
done
