#!/usr/bin/env bash
# Runs the food-delivery example: its backends, and a gateway before them. Ctrl-C ends all.
#
#   scripts/run.sh           the gateway knows the backends' addresses
#   scripts/run.sh consul    they are registered in a Consul agent, which it asks
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

variant=${1:-}
case $variant in
"" | consul) ;;
*)
  echo "run: there is no variant \"$variant\": leave it out, or say consul" >&2
  exit 1
  ;;
esac
policies=examples/food-delivery${variant:+-$variant}
gateway=http://127.0.0.1:8080
consul=127.0.0.1:8500
pids=()

# start COMMAND...: in the background, in a process group of its own, so that Ctrl-C reaches only
# this script, which then ends everything in order.
start() {
  set -m
  "$@" </dev/null &
  pids+=($!)
  set +m
}

alive() {
  local pid
  for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || return 1; done
}

# ended: true once no process of the group is left.
ended() { ! kill -0 -- "-$1" 2>/dev/null; }

# finish ends what was started, last first: asks, waits up to 10 s, then kills the whole group.
finish() {
  local code=$? i pid tries
  trap '' INT TERM HUP
  trap - EXIT
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    pid=${pids[i]}
    kill -TERM "$pid" 2>/dev/null || true
    for ((tries = 0; tries < 100; tries++)); do
      ended "$pid" && break
      sleep 0.1
    done
    ended "$pid" || kill -KILL -- "-$pid" 2>/dev/null || true
  done
  exit "$code"
}
trap finish EXIT
trap 'exit 0' INT TERM HUP

wait_ready() {
  local tries
  for ((tries = 0; tries < 150; tries++)); do
    alive || return 1
    curl -fsS -o /dev/null --max-time 2 "$gateway/api/v1/products" 2>/dev/null && return
    sleep 0.2
  done
  echo "run: no answer from $gateway within 30 s" >&2
  return 1
}

# place shows how an order is placed: where the gateway asks who is calling, with a token.
place() {
  local order="curl -i $gateway/api/v1/orders -d '{\"items\": [{\"sku\": \"pizza-margherita\", \"quantity\": 2}]}'"
  if [ -n "$variant" ]; then
    printf '  %s\n' "$order" "curl -i $gateway/api/v1/orders/1"
    return
  fi
  cat <<TEXT
  $order     # 401: who are you?
  echo "authorization: Bearer \$(curl -sX POST '127.0.0.1:9049/token?user=alice')" > /tmp/alice
  $order -H @/tmp/alice     # bob may not: 403
  curl -i $gateway/api/v1/orders/1 -H @/tmp/alice
TEXT
}

guide() {
  cat <<TEXT

Listening:
  $gateway     the gateway (Envoy), policies in $policies
  http://127.0.0.1:18080    Sluice: admin API, metrics
  http://127.0.0.1:19000    Envoy's admin page
  127.0.0.1:9001-9049       the backends and an identity provider, as listed above${variant:+
  http://$consul     Consul, with its own pages}

Requests to try, from another terminal (x-instance tells which backend answered):

  curl -i $gateway/api/v1/products
  curl -i $gateway/api/v1/products/pizza-margherita
$(place)
  curl -i -X DELETE $gateway/api/v1/orders/1

Edit a file in $policies and ask again. Ctrl-C ends everything.

TEXT
  [ -z "$variant" ] || cat <<TEXT
Deliveries run too, but nobody registered them. Once they are, they have a route:

  curl -i $gateway/api/v1/deliveries/1
  $SLUICE_CONSUL_BINARY services register -name=delivery -port=9031 -address=127.0.0.1 -meta=sluice-template=api -meta=sluice-path=/api/v1/deliveries

  bin/sluice catalog
  bin/sluice why Registration/delivery

TEXT
}

# register tells Consul of the backends, as soon as there is a leader to tell.
register() {
  local tries
  for ((tries = 0; tries < 150; tries++)); do
    alive || return 1
    "$SLUICE_CONSUL_BINARY" services register -http-addr="$consul" "$policies/registrations.json" >/dev/null 2>&1 && return
    sleep 0.2
  done
  echo "run: Consul took no registrations within 30 s" >&2
  return 1
}

command -v curl >/dev/null || { echo "run: curl is missing, which tells when the gateway answers: install it" >&2; exit 1; }
SLUICE_ENVOY=$(scripts/tools.sh --print envoy)
export SLUICE_ENVOY
if [ -n "$variant" ]; then
  SLUICE_CONSUL_BINARY=$(scripts/tools.sh --print consul)
  export SLUICE_CONSUL_BINARY
fi
go build -trimpath -o bin/sluice ./cmd/sluice
go build -trimpath -o bin/food-delivery ./examples/food-delivery

start bin/food-delivery
if [ -n "$variant" ]; then
  start "$SLUICE_CONSUL_BINARY" agent -dev -log-level=warn -bind=127.0.0.1 -client=127.0.0.1
  register || { echo "run: the example did not start; the reason stands above" >&2; exit 1; }
  start bin/sluice dev "$policies" --consul "$consul"
else
  start bin/sluice dev "$policies"
fi
wait_ready || { echo "run: the example did not start; the reason stands above" >&2; exit 1; }
guide
while alive; do sleep 0.5; done
echo "run: a part ended by itself; ending the other" >&2
exit 1
