#!/usr/bin/env bash
# run.sh: what the nats command line asks for ($SYS.REQ.), by one who may and by one who
# may not. Not part of make test: the first build of the nats command takes minutes.
#
# GATEHOUSE  binary, default: the one in the checkout
# NATS       binary of the nats command, default: built from go.mod
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
gatehouse=${GATEHOUSE:-$here/../../gatehouse}
work=$(mktemp -d)
broker=
trap '[ -z "$broker" ] || { kill "$broker"; wait "$broker" || true; }; rm -rf "$work"' EXIT
nats=${NATS:-$work/nats}
[ -n "${NATS:-}" ] || (cd "$here" && CGO_ENABLED=0 go build -o "$nats" github.com/nats-io/natscli/nats)

hash=$("$gatehouse" passwd --stdin --bcrypt <<<secret)
chmod 755 "$work"
cat > "$work/broker.toml" <<END
[environment]
broker = "gate"
[listen]
tcp = ["127.0.0.1:0"]
tls = []
[privsep]
runtime_dir = "$work/run"
[[profile]]
name = "admin"
system = true
[[profile]]
name = "desk"
publish = ["px.>", "_INBOX.>"]
[[user]]
name = "admin"
password = '$hash'
profile = "admin"
[[user]]
name = "desk"
password = '$hash'
profile = "desk"
[[user]]
name = "anybody"
password = '$hash'
END
chmod 600 "$work/broker.toml"
"$gatehouse" serve -c "$work/broker.toml" 2> "$work/log" &
broker=$!
for _ in $(seq 100); do
  ! grep -q '"ready"\| ready$' "$work/log" || break
  sleep 0.1
done
url=nats://$("$gatehouse" status -c "$work/broker.toml" | sed -n 's/^listen //p')

# try USER CODE TEXT ARGUMENTS...: runs nats and wants an exit code and a text.
failed=0
run() {
  local user=$1; shift
  HOME=$work XDG_CONFIG_HOME=$work "$nats" --no-context -s "$url" --user "$user" --password secret --timeout 2s "$@" > "$work/out" 2>&1
}
try() {
  local user=$1 code=$2 text=$3 got=0; shift 3
  run "$user" "$@" || got=$?
  if [ "$got" != "$code" ] || ! grep -q -- "$text" "$work/out"; then
    echo "FAIL $user: nats $*: exit $got, want $code and \"$text\""
    sed 's/^/  /' "$work/out"
    failed=1
  else
    echo "ok   $user: nats $*"
  fi
}

for _ in $(seq 20); do # until the console has its connection
  run admin server list && break
  sleep 0.2
done
try admin 0 'User: admin' account info
try admin 0 'gate ' server ping 1
try admin 0 ' gate ' server list
try admin 0 'information for gate' server info
try admin 0 'information for gate' server info gate
try admin 0 'Connections out of' server report connections
try admin 0 'ok (200)' server report health
try admin 0 ' \$G ' server report accounts
try admin 0 'gate' server report cpu
try admin 0 '"server_id"' server request variables
try admin 0 '"connections":\[' server request connections
try admin 0 '"num_subscriptions"' server request subscriptions
try admin 0 '"accounts"' server request accounts
try admin 0 'OK gate' server check server --name gate
try admin 0 'Connections out of' account report connections
for user in desk anybody; do
  try $user 0 "User: $user" account info
  try $user 0 'Connection' server check connection --connect-warn 5s --connect-critical 9s
  try $user 1 'ensure the account used has system privileges' server list
done
try anybody 1 '503' server ping 1
try desk 0 'Permissions Violation' server ping 1
try anybody 1 'system privileges' server request variables
exit $failed
