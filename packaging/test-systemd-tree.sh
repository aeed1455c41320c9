#!/bin/bash
# test-systemd-tree.sh is what test-systemd.sh runs in the booted tree: the package's life
# under systemd, from installation to purge.
set -eEuo pipefail
trap 'echo "FAIL line $LINENO: $BASH_COMMAND" >&2; journalctl -q -u gatehouse -n 50 --no-pager -o cat >&2 || :' ERR
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
fail() { echo "FAIL $*" >&2; false; }
note() { echo "== $*"; }

# within CONDITION...: in half a minute at most.
within() {
  for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done
  fail "not within half a minute: $*"
}
of() { systemctl show -P "$1" gatehouse; }
has() { journalctl -q -u gatehouse -o cat --no-pager | grep -q "$1"; }
succeeded() { [ "$(of ActiveState)" = active ] && [ "$(of MainPID)" != "$main" ]; }
roles() { grep -la '^gatehouse: \(router\|cm\|dispatcher\)' /proc/[0-9]*/cmdline | sort; }

# pong: the connection that was opened at the beginning is there, and the same.
pong() {
  printf 'PING\r\n' >&3
  read -r -t 10 -u 3 line || fail "the connection is gone"
  [[ $line == PONG* ]] || fail "no PONG: $line"
}

note "installation: $(systemctl --version | head -n 1)"
dpkg -i /1.deb >/dev/null
test "$(of ActiveState) $(of SubState) $(of UnitFileState)" = "active running enabled"
[[ $(of StatusText) == *"listening on 127.0.0.1:4222"* ]]
exec 3<>/dev/tcp/127.0.0.1/4222
read -r -t 10 -u 3 line; [[ $line == INFO* ]]
printf 'CONNECT {"verbose":false}\r\n' >&3
pong
gatehouse pub -s tls://127.0.0.1:4443 --ca /etc/gatehouse/development.crt greet hello

note "reload"
sed -i '/^\[log\]$/a level = "debug"' /etc/gatehouse/broker.toml
main=$(of MainPID)
systemctl reload gatehouse
within has '"message":"reloaded"'
test "$(of MainPID) $(of ActiveState)" = "$main active"
pong

note "upgrade"
dpkg -i /2.deb >/tmp/out
grep '^upgraded to version' /tmp/out
test "$(of MainPID) $(of ActiveState) $(of NRestarts)" = "$main active 0"
pong

note "the parent is killed"
before=$(roles)
kill -KILL "$main"
within succeeded
test "$(roles)" = "$before"
pong

note "a credential of systemd's"
install -d /etc/systemd/system/gatehouse.service.d
printf '[Service]\nLoadCredential=unlock:/etc/gatehouse/development.secret\n' >/etc/systemd/system/gatehouse.service.d/unlock.conf
sed -i 's|^unlock_file = .*|unlock_file = "/run/credentials/gatehouse.service/unlock"|' /etc/gatehouse/broker.toml
systemctl daemon-reload
systemctl restart gatehouse
gatehouse pub -s tls://127.0.0.1:4443 --ca /etc/gatehouse/development.crt greet hello

note "stop"
systemctl stop gatehouse
test "$(of ActiveState) $(of Result)" = "inactive success"
if grep -la '^gatehouse: ' /proc/[0-9]*/cmdline; then fail "something runs on"; fi

note "remove and purge"
systemctl start gatehouse
dpkg -r gatehouse >/dev/null
test "$(of ActiveState)" != active
test -e /etc/gatehouse/broker.toml
dpkg -P gatehouse >/dev/null
rm -r /etc/systemd/system/gatehouse.service.d
left=$(find / -xdev -name '*gatehouse*' ! -path '/tmp/*' ! -path '/proc/*'; getent passwd | grep '^gatehouse-' || :; getent group | grep '^gatehouse-' || :)
[ -z "$left" ] || fail "left: $left"
echo ok
