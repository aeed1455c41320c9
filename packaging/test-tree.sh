#!/bin/bash
# test-tree.sh is what test.sh runs inside the tree: the package's life from installation
# to purge.
set -eEuo pipefail
trap 'echo "FAIL line $LINENO: $BASH_COMMAND" >&2' ERR
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
fail() { echo "FAIL $*" >&2; exit 1; }
note() { echo "== $*"; }

# until CONDITION...: within ten seconds.
within() {
  for _ in $(seq 200); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done
  fail "not within ten seconds: $*"
}

note "a number that is somebody else's"
useradd -K UID_MAX=65000 -u 61104 somebody
if dpkg -i /1.deb >/tmp/out 2>&1; then fail "installed"; fi
grep -q '^gatehouse: number 61104 is that of somebody (passwd): Gatehouse needs 61104 for gatehouse-router; ' /tmp/out || { cat /tmp/out; fail "the reason is not said"; }
userdel somebody

note "installation"
dpkg --configure gatehouse
test "$(getent passwd | grep -c '^gatehouse-')" = 74
test "$(getent passwd 61116 | cut -d: -f1)" = gatehouse-cm-0
test "$(stat -c '%a %U:%G' /etc/gatehouse/broker.toml)" = '640 root:root'
test "$(stat -c %a /etc/gatehouse/development.secret)" = 400
test "$(stat -c '%a %U:%G' /var/log/gatehouse)" = '750 root:root'
gatehouse check
if gatehouse status >/dev/null 2>&1; then fail "something runs that nobody started"; fi
cp -a /etc/gatehouse /tmp/etc

note "a broker and its clients"
gatehouse serve 2>/tmp/log &
broker=$!
within grep -q '"message":"ready"' /tmp/log
gatehouse status >/dev/null
router=$(grep -la '^gatehouse: router' /proc/[0-9]*/cmdline)
test "$(getent passwd "$(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' "${router%cmdline}status")" | cut -d: -f1)" = gatehouse-router
exec 3<>/dev/tcp/127.0.0.1/4222 4<>/dev/tcp/127.0.0.1/4222
read -r -u 3 _; read -r -u 4 _
printf 'CONNECT {"verbose":false}\r\nSUB load 1\r\nPING\r\n' >&3
read -r -t 10 -u 3 line; [[ $line == PONG* ]] || fail "no PONG: $line"
printf 'CONNECT {"verbose":false}\r\n' >&4
gatehouse pub -s tls://127.0.0.1:4443 --ca /etc/gatehouse/development.crt greet hello
gatehouse conns | grep -q '^ *[0-9]* *127\.0\.0\.1:'

note "rotation of the audit log"
audit=/var/log/gatehouse/audit.log
mv $audit $audit.1
eval "$(sed -n '/postrotate/,/endscript/{//!p}' /etc/logrotate.d/gatehouse)"
within test -e $audit
test "$(stat -c '%a %U:%G' $audit)" = '600 root:root'
grep -q '"event":"start"' $audit.1

note "upgrade while messages pass"
(i=0; while [ ! -e /tmp/enough ]; do i=$((i+1)); printf 'PUB load 8\r\n%08d\r\n' $i; [ $((i % 20)) = 0 ] && sleep 0.01; done; echo $i >/tmp/sent) >&4 &
publisher=$!
(while read -r -u 3 line; do line=${line%$'\r'}; [[ $line =~ ^[0-9]{8}$ ]] && echo "$line"; done) >/tmp/got &
dpkg -i /2.deb | tee /tmp/out
grep -q '^upgraded to version' /tmp/out || fail "no live upgrade"
touch /tmp/enough
wait $publisher
sent=$(cat /tmp/sent)
within grep -q "^$(printf %08d "$sent")$" /tmp/got
seq -f %08.0f "$sent" | cmp - /tmp/got || fail "messages lost, doubled or out of order"
kill -0 $broker
within grep -q '"event":"upgrade",' $audit
gatehouse status | head -n 3
echo "$sent messages, none lost; both connections stayed"
diff -r /etc/gatehouse /tmp/etc

note "remove leaves data, purge nothing"
kill $broker
wait $broker || fail "the broker ended with $?"
dpkg -r gatehouse
diff -r /etc/gatehouse /tmp/etc
tail -n 1 $audit | grep -q '"event":"stopped"'
test ! -e /usr/bin/gatehouse
dpkg -P gatehouse
rm -rf /tmp/etc
left=$(find / -xdev -name '*gatehouse*' ! -path '/tmp/*' ! -path '/proc/*'; getent passwd | grep '^gatehouse-' || :; getent group | grep '^gatehouse-' || :)
[ -z "$left" ] || fail "left: $left"
echo ok
