#!/usr/bin/env bash
# Runs an ASGI app, unchanged, on a port or dark.
#
#   NETWORKING_MODE        http (default): on PORT of HOST; ginnel: offered to the network, with no port at all
#   HOST, PORT             default 127.0.0.1 and 8000
#   GINNEL_IDENTITY_FILE   identity of type connector, made by `ginnel enroll`; needed in ginnel mode
#   GINNEL_SERVICE_NAME    name of the service; default claude-api
#   GINNEL_RELAYS          only for networks without a controller: relay-1=relay-1.example.net:4433,...
#   APP, UVICORN, GINNEL   default app:app, uvicorn and ginnel
set -euo pipefail
cd "$(dirname "$0")"

fail() {
  echo "run.sh: $1" >&2
  exit 1
}

read -ra uvicorn <<<"${UVICORN:-uvicorn}"
read -ra ginnel <<<"${GINNEL:-ginnel}"
app=${APP:-app:app}

case ${NETWORKING_MODE:-http} in
http)
  exec "${uvicorn[@]}" --host "${HOST:-127.0.0.1}" --port "${PORT:-8000}" "$app"
  ;;
ginnel) ;;
*) fail "NETWORKING_MODE=$NETWORKING_MODE is neither http nor ginnel" ;;
esac

[ -n "${GINNEL_IDENTITY_FILE:-}" ] || fail "NETWORKING_MODE=ginnel needs GINNEL_IDENTITY_FILE, a file made by ginnel enroll"
[ -f "$GINNEL_IDENTITY_FILE" ] || fail "GINNEL_IDENTITY_FILE=$GINNEL_IDENTITY_FILE does not exist: make it by ginnel enroll"
[ -r "$GINNEL_IDENTITY_FILE" ] || fail "GINNEL_IDENTITY_FILE=$GINNEL_IDENTITY_FILE cannot be read by $(id -un)"
service=${GINNEL_SERVICE_NAME:-claude-api}
[[ $service =~ ^[a-z0-9_][a-z0-9._-]*$ ]] || fail "GINNEL_SERVICE_NAME=$service is not the name of a service"

# The app's socket lies where only this user can reach it.
folder=$(mktemp -d)
pids=()
stop() {
  trap - EXIT TERM INT
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait || true
  rm -rf "$folder"
}
trap stop EXIT
trap 'exit 0' TERM INT

relays=
IFS=, read -ra entries <<<"${GINNEL_RELAYS:-}"
for entry in "${entries[@]}"; do
  [[ $entry =~ ^([A-Za-z0-9._-]+)=([][A-Za-z0-9.:_-]+)$ ]] || fail "GINNEL_RELAYS: cannot read $entry, expected NAME=HOST:PORT"
  relays+="${relays:+, }{ \"name\": \"${BASH_REMATCH[1]}\", \"address\": \"${BASH_REMATCH[2]}\" }"
done
cat >"$folder/connector.json" <<JSON
{
  "mode": "connector",
  "identity": "$(realpath "$GINNEL_IDENTITY_FILE")",
  "relays": [$relays],
  "services": [{
    "name": "$service",
    "upstream": "unix:$folder/app.sock",
    "healthCheck": { "kind": "http", "path": "/health", "interval": "30s", "timeout": "10s" }
  }]
}
JSON

"${uvicorn[@]}" --uds "$folder/app.sock" "$app" &
pids+=($!)
for _ in $(seq 100); do
  [ -S "$folder/app.sock" ] && break
  kill -0 "${pids[0]}" 2>/dev/null || fail "the app did not start"
  sleep 0.1
done
[ -S "$folder/app.sock" ] || fail "the app made no socket within 10 s"

"${ginnel[@]}" run --config "$folder/connector.json" &
pids+=($!)
# Whichever ends first ends the other: half a service is none.
wait -n "${pids[@]}" && code=0 || code=$?
exit "$code"
