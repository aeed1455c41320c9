#!/usr/bin/env bash
# run.sh [-n RUNS] [runner options]: nats.go's own tests against our binary.
#
# The runner and its list come from shared/interop beside the checkout; without
# it nothing is tested, said in one SKIP line. Every test of the classes, and
# every other one that needs nothing but our capabilities, must pass in each of
# RUNS runs (default 1), at the first try. Options after -n go to the runner: -j
# jobs, -r regular expression, -t seconds per test.
#
# GATEHOUSE  binary, default: the one in the checkout
# BROKER_CMD another broker in its place, to try the runner itself:
#            BROKER_CMD='nats-server -c {natsconf}' ./run.sh
# CAPS       capabilities that we have: tests that need another one are left out
# CLASSES    classes of tests to run in any case, a regular expression
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
shared=${INTEROP_SHARED:-$root/../shared/interop}
caps=${CAPS:-tls,tls_first,tls_verify,max_subscriptions,userpass,token,users,permissions,bcrypt,nkeys,reload}
classes=${CLASSES:-plain}
runs=1
if [ "${1:-}" = -n ]; then runs=$2; shift 2; fi

if [ ! -x "$shared/run-natsgo-core.sh" ]; then
  echo "SKIP nats.go's own tests: shared/interop is not beside the checkout"
  exit 0
fi
gatehouse=${GATEHOUSE:-$root/gatehouse}
if [ -z "${BROKER_CMD:-}" ] && [ ! -x "$gatehouse" ]; then
  echo "run.sh: no binary $gatehouse: make build" >&2
  exit 1
fi

# Processes of this session that run the broker under test.
brokers() {
  local p s
  for p in /proc/[0-9]*; do
    [ "$p/exe" -ef "$gatehouse" ] || continue
    s=$(sed 's/.*) //' "$p/stat" 2>/dev/null | cut -d' ' -f4) # session; gone: empty
    [ "$s" = "$session" ] && echo "${p#/proc/}"
  done
  return 0
}
session=$(sed 's/.*) //' /proc/$$/stat | cut -d' ' -f4)
before=$(brokers)

work=$(mktemp -d)
trap '[ -n "${keep:-}" ] || rm -rf "$work"' EXIT
(cd "$here" && go build -o "$work/adapter" ./adapter)
command=${BROKER_CMD:-"'$work/adapter' -gatehouse '$gatehouse' {spec}"}
awk -F'\t' -v c="^($classes)\$" -v have="$caps" '
  BEGIN { n = split(have, names, ","); for (i = 1; i <= n; i++) ours[names[i]] = 1 }
  function known(needs,  i, n, names) {
    n = split(needs, names, ",")
    for (i = 1; i <= n; i++) if (!(names[i] in ours)) return 0
    return 1
  }
  /^#/ || $4 ~ c || known($5)' "$shared/lists/natsgo-core.tsv" > "$work/list"

for n in $(seq 1 "$runs"); do
  echo "nats.go's own tests, class $classes and $caps, run $n of $runs"
  if ! "$shared/run-natsgo-core.sh" "$command" -c "$caps" -R 0 -j 2 -l "$work/list" -o "$work/$n" "$@"; then
    keep=yes
    echo "run.sh: failed; logs in $work/$n" >&2
    exit 1
  fi
done

for _ in $(seq 50); do
  left=$(comm -13 <(sort <<<"$before") <(brokers | sort))
  [ -z "$left" ] && exit 0
  sleep 0.1
done
echo "run.sh: brokers left behind: $left" >&2
exit 1
