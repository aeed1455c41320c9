#!/usr/bin/env bash
# test.sh: every test there is, as `make test` runs it. Skipped tests are
# listed at the end with their reasons: silence would look like a pass.
set -uo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 GOEXPERIMENT=runtimesecret GOFLAGS=-buildvcs=false GATEHOUSE=$PWD/gatehouse
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0

# run FOLDER ARGUMENTS...: go test there, showing the packages and failures.
run() {
  local dir=$1; shift
  echo "== $dir: go test $*"
  if ! (cd "$dir" && go test -v "$@") > "$log.1" 2>&1; then
    failed=1
    grep -vE '^(=== |--- PASS|    --- PASS|        --- PASS|PASS$)' "$log.1" | tail -n 200
    echo "== failed in $dir, and what the tests said:"
    awk '/^ *=== (RUN|CONT|NAME|PAUSE)/ { name = $3; next } { print name ": " $0 }' "$log.1" |
      awk -F': ' 'NR == FNR { if ($0 ~ /^ *--- FAIL/) { sub(/^ *--- FAIL: /, ""); sub(/ .*/, ""); bad[$0] } next } $1 in bad' "$log.1" - |
      cut -c1-400 | grep -vE ': *(--- |\{)' | head -n 300
    grep -E '^ *--- FAIL|^FAIL|^panic:' "$log.1"
  else
    grep -E '^(ok|\?)' "$log.1"
  fi
  cat "$log.1" >> "$log"; rm -f "$log.1"
}

# The transcripts are replayed against nats-server too: they must not drift from it.
peer=$(mktemp -d)
trap 'rm -rf "$log" "$peer"' EXIT
if (cd testdata/peers && go build -o "$peer/nats-server" github.com/nats-io/nats-server/v2); then
  export NATS_SERVER=$peer/nats-server
fi

run . ./...
# Routers that end at chosen stores: stored in package store is empty without the tag.
run . -tags stores -run Stop ./roles/router
if command -v cc >/dev/null; then
  CGO_ENABLED=1 run . -race -short ./store ./wire ./privsep ./privsep/custody ./tickets/... ./roles/router ./roles/dispatcher ./roles/cm ./roles/tlsd ./roles/console
else
  echo "    SKIP race detector: no C compiler" | tee -a "$log"
fi
# The binary and the transcripts are no inputs that go test knows of.
run testdata/interop -count=1 -p 1 ./...
run testdata/peers -count=1 ./...
run testdata/cms -count=1 ./...
run testdata/watch -count=1 ./...
# A package of this module; the go command does not find it by itself here.
run . -count=1 ./testdata/hostile
# One at a time, and again if need be: some of these tests give two messages 10 ms
# together, which a virtual machine's own wake-ups take at times, whatever the
# broker. What needed a second try is counted; run.sh -n 5 alone allows none.
testdata/interop/run.sh -j 1 -R 2 > "$log.1" 2>&1 || failed=1
tail -n 12 "$log.1"; cat "$log.1" >> "$log"; rm -f "$log.1"

count() { grep -cE "$1" "$log"; }
echo "== skipped"
grep -E 'SKIP' "$log" | grep -vE '^ *--- SKIP|, 0 skipped' | sed 's/^ *//' | sort | uniq -c
if [ "$(id -u)" = 0 ] && grep -q 'SKIP needs root' "$log"; then
  echo "a test skipped for want of root, as root"; failed=1
fi
echo "$(count '^ *--- PASS') passed, $(count '^ *--- FAIL') failed, $(count '^ *--- SKIP') skipped"
exit $failed
