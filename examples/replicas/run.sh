#!/usr/bin/env bash
# Three replicas and the broker with their log, on loopback, until Ctrl-C. Everything is made
# anew each time, below ./run. `make run-replicas` builds bin/pdp and calls this.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=${1:?usage: run.sh CACHE (folder for the jars of Kafka)}
port=19192
data=$PWD/run/replicas
pids=()

kafka() { bin/kafka --cache "$cache" --port "$port" --dir "$data/kafka" "$@"; }

finish() {
  trap - EXIT INT TERM
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  kafka stop
}

mkdir -p "$data"
if [[ -d $data/kafka ]]; then kafka stop >/dev/null; kafka wipe; fi
trap finish EXIT # before the broker is there: Ctrl-C may come while it starts
trap 'exit 130' INT TERM
kafka start
kafka status >/dev/null || exit 0 # it has said why there is none

bin/pdp topics create --config examples/replicas/vigil.yaml
rm -f "$data"/?.json
n=0
for name in a b c; do
  seed=()
  if [[ $name == a ]]; then seed=(--seed examples/invoice/registrations.json); fi
  # In a group of its own, so that Ctrl-C comes to this script alone, which ends them in order.
  set -m
  bin/pdp serve --config examples/replicas/vigil.yaml --fresh --data-dir "$data/$name" \
    --decision-listen "127.0.0.1:70$((7 + n))0" --control-listen "127.0.0.1:70$((7 + n))1" \
    --logging-level warn --address-file "$data/$name.json" "${seed[@]}" >"$data/$name.log" 2>&1 &
  set +m
  pids+=($!)
  n=$((n + 1))
done
# Its file of addresses says that it is this replica that answers, and no other program.
i=0
for name in a b c; do
  until [[ -e $data/$name.json ]] && curl -sf "127.0.0.1:70$((7 + i))0/readyz" >/dev/null; do
    if ! kill -0 "${pids[$i]}" 2>/dev/null; then
      echo "replica $name has ended:" >&2
      cat "$data/$name.log" >&2
      exit 1
    fi
    sleep 0.1
  done
  i=$((i + 1))
done

cat <<EOF

Three replicas decide on 127.0.0.1:7070, :7080 and :7090; what they print is in $data.
In another shell:

  # Allowed, by all of them.
  for port in 7070 7080 7090; do
    curl -s 127.0.0.1:\$port/access/v1/evaluation -H 'content-type: application/json' -d @examples/invoice/requests/pay.json; echo
  done

  # Told to the first; the command returns when all three have it in force.
  bin/pdp signal quarantine agent:invoice-agent --reason beaconing --control-url http://127.0.0.1:7071 --wait-all http://127.0.0.1:7081,http://127.0.0.1:7091

  # Denied, by all of them: the first loop again. And allowed again:
  bin/pdp signal release agent:invoice-agent --reason 'false alarm' --control-url http://127.0.0.1:7071

  # What none of them was told: a producer writes to the topic "risk".
  echo '{"v":1,"id":"soc-1","type":"quarantine","entities":["agent:invoice-agent"],"time":"'\$(date -u +%FT%TZ)'"}' | kcat -P -b 127.0.0.1:$port -t risk

Ctrl-C ends everything.
EOF
while true; do
  for pid in "${pids[@]}"; do
    if ! kill -0 "$pid" 2>/dev/null; then
      echo "a replica has ended by itself; see $data" >&2
      exit 1
    fi
  done
  sleep 1
done
