#!/usr/bin/env bash
# Runs the food-delivery example: its backends, and a gateway before them. Ctrl-C ends all.
#
#   scripts/run.sh           the gateway knows the backends' addresses
#   scripts/run.sh consul    they are registered in a Consul agent, which it asks
#   scripts/run.sh secure    the gateway has TLS too, and the payment provider comes with a certificate
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

variant=${1:-}
case $variant in
"" | consul | secure) ;;
*)
  echo "run: there is no variant \"$variant\": leave it out, or say consul or secure" >&2
  exit 1
  ;;
esac
policies=examples/food-delivery
case $variant in
consul) policies=examples/food-delivery-consul ;;
secure) policies=bin/food-delivery-secure ;; # the example's, and on them those of examples/food-delivery-secure
esac
certificates=bin/certificates
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

# wait_ready FLAG...: until the gateway answers curl with these flags.
wait_ready() {
  local tries
  for ((tries = 0; tries < 150; tries++)); do
    alive || return 1
    curl -fsS -o /dev/null --max-time 2 "$@" "$gateway/api/v1/products" 2>/dev/null && return
    sleep 0.2
  done
  echo "run: no answer from $gateway within 30 s" >&2
  return 1
}

# callers shows how orders are placed and deliveries sent: where the gateway asks who is calling, by a token or a key.
callers() {
  local order="curl -i $gateway/api/v1/orders -d '{\"items\": [{\"sku\": \"pizza-margherita\", \"quantity\": 2}]}'"
  if [ "$variant" = consul ]; then
    printf '  %s\n' "$order" "curl -i $gateway/api/v1/orders/1"
    return
  fi
  cat <<TEXT

  $order     # 401: who are you?
  echo "authorization: Bearer \$(curl -sX POST '127.0.0.1:9049/token?user=alice')" > bin/alice
  $order -H @bin/alice     # bob may not: 403
  curl -i $gateway/api/v1/orders/1 -H @bin/alice
  bin/sluice revoke --subject alice     # then ask again; \`bin/sluice revoke list\` and \`undo\` let her in

A courier's program comes with an API key:

  echo "x-api-key: \$(bin/sluice keys create --owner courier --scopes deliver)" > bin/courier
  curl -i $gateway/api/v1/deliveries -d '{"orderId": "1", "address": "Main St 1"}' -H @bin/courier
TEXT
}

# settlement shows what the payment provider does, with its certificate.
settlement() {
  cat <<TEXT
The payment provider comes with a certificate:

  curl -i $gateway/api/v1/payments -d '{"orderId": "1", "cents": 1900}' -H 'idempotency-key: a' -H @bin/alice
  curl -i -X POST --cacert $certificates/ca.pem https://localhost:8443/api/v1/payments/1/settled     # 401
  curl -i -X POST --cacert $certificates/ca.pem --cert $certificates/provider.pem https://localhost:8443/api/v1/payments/1/settled

TEXT
}

guide() {
  cat <<TEXT

Listening:
  $gateway     the gateway (Envoy), policies in $policies
  http://127.0.0.1:18080    Sluice: admin API, metrics
  http://127.0.0.1:19000    Envoy's admin page
  127.0.0.1:9001-9049       the backends and an identity provider, as listed above
TEXT
  case $variant in
  consul) echo "  http://$consul     Consul, with its own pages" ;;
  secure) echo "  https://localhost:8443    the gateway with TLS; certificates in $certificates" ;;
  esac
  cat <<TEXT

Requests to try, from another terminal (x-instance tells which backend answered):

  curl -i $gateway/api/v1/products
  curl -i $gateway/api/v1/products/pizza-margherita
$(callers)

A method that no rule takes:

  curl -i -X DELETE $gateway/api/v1/orders/1

TEXT
  [ "$variant" != secure ] || settlement
  printf 'Edit a file in %s and ask again. Ctrl-C ends everything.\n\n' "$policies"
  [ "$variant" != consul ] || cat <<TEXT
Deliveries run too, but nobody registered them. Once they are, they have a route:

  curl -i $gateway/api/v1/deliveries/1
  $SLUICE_CONSUL_BINARY services register -name=delivery -port=9031 -address=127.0.0.1 -meta=sluice-template=api -meta=sluice-path=/api/v1/deliveries

  bin/sluice catalog
  bin/sluice why Registration/delivery

TEXT
}

# secure gives the gateway its certificates, by the store, and TLS.
secure() {
  bin/food-delivery -certificates "$certificates" &&
    bin/sluice secrets set edge --file "$certificates/edge.pem" &&
    bin/sluice secrets set partners --file "$certificates/partners.pem" &&
    cp examples/food-delivery-secure/*.yaml "$policies" &&
    gateway=https://localhost:8443 wait_ready --cacert "$certificates/ca.pem"
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
if [ "$variant" = consul ]; then
  SLUICE_CONSUL_BINARY=$(scripts/tools.sh --print consul)
  export SLUICE_CONSUL_BINARY
fi
go build -trimpath -o bin/sluice ./cmd/sluice
go build -trimpath -o bin/food-delivery ./examples/food-delivery

if [ "$variant" = secure ]; then
  rm -rf "$policies"
  mkdir -p "$policies"
  cp examples/food-delivery/*.yaml "$policies"
fi
start bin/food-delivery
if [ "$variant" = consul ]; then
  start "$SLUICE_CONSUL_BINARY" agent -dev -log-level=warn -bind=127.0.0.1 -client=127.0.0.1
  register || { echo "run: the example did not start; the reason stands above" >&2; exit 1; }
  start bin/sluice dev "$policies" --consul "$consul"
else
  start bin/sluice dev "$policies"
fi
wait_ready || { echo "run: the example did not start; the reason stands above" >&2; exit 1; }
if [ "$variant" = secure ]; then
  secure || { echo "run: the gateway has no TLS; the reason stands above" >&2; exit 1; }
fi
guide
while alive; do sleep 0.5; done
echo "run: a part ended by itself; ending the other" >&2
exit 1
