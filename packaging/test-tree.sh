#!/bin/bash
# test-tree.sh is what test.sh runs inside the tree: the package's life from installation
# to purge.
set -eEuo pipefail
trap 'echo "FAIL line $LINENO: $BASH_COMMAND" >&2' ERR
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
fail() { echo "FAIL $*" >&2; tail -n 20 /tmp/*log >&2; exit 1; }
note() { echo "== $*"; }

# within CONDITION...: in half a minute at most.
within() {
  for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep 0.05; done
  fail "not within half a minute: $*"
}

note "a number that is somebody else's"
useradd -K UID_MAX=65000 -u 61104 somebody
if dpkg -i /1.deb >/tmp/out 2>&1; then fail "installed"; fi
grep -q '^gatehouse: number 61104 is that of somebody (passwd): Gatehouse needs 61104 for gatehouse-router; ' /tmp/out || { cat /tmp/out; fail "the reason is not said"; }
userdel somebody

note "installation"
dpkg --configure gatehouse
test "$(getent passwd | grep -c '^gatehouse-')" = 80
test "$(getent passwd 61116 | cut -d: -f1)" = gatehouse-cm-0
test "$(stat -c '%a %U:%G' /etc/gatehouse/broker.toml)" = '640 root:root'
test "$(stat -c %a /etc/gatehouse/development.secret)" = 400
test "$(stat -c '%a %U:%G' /var/log/gatehouse)" = '750 root:root'
test "$(stat -c %a /usr/bin/gatehouse)" = 711
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

note "whoever is not root, who cannot read the program"
user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
if "${user[@]}" cat /usr/bin/gatehouse >/dev/null 2>&1; then fail "read"; fi
"${user[@]}" gatehouse pub -s nats://127.0.0.1:4222 greet hello
mkdir -m 700 /tmp/user
printf '[listen]\ntcp = ["127.0.0.1:4333"]\n[privsep]\nruntime_dir = "/tmp/user/run"\n' >/tmp/user/broker.toml
chown -R 65534:65534 /tmp/user
"${user[@]}" gatehouse serve -c /tmp/user/broker.toml 2>/tmp/userlog &
other=$!
within grep -q '"message":"ready"' /tmp/userlog
"${user[@]}" gatehouse upgrade -c /tmp/user/broker.toml | grep -q '^upgraded to version' || fail "no live upgrade"
"${user[@]}" gatehouse pub -s nats://127.0.0.1:4333 greet hello
kill $other
wait $other
rm -r /tmp/user

if [ -e /preload.deb ]; then
  note "the preload library"
  dpkg -i /preload.deb
  mkdir /tmp/tls
  echo 127.0.0.1 localhost >>/etc/hosts
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -keyout /tmp/tls/key.pem -out /tmp/tls/cert.pem 2>/dev/null
  openssl s_server -quiet -www -accept 127.0.0.1:4499 -key /tmp/tls/key.pem -cert /tmp/tls/cert.pem &
  server=$!
  within curl -s -o /dev/null --cacert /tmp/tls/cert.pem https://localhost:4499/
  shared() {
    GATEHOUSE_TLS=shared GATEHOUSE_TLS_HOSTS=localhost:4499 GATEHOUSE_TLS_SOCKET=/tmp/tls/socket \
      LD_PRELOAD=/usr/lib/gatehouse/gatehouse-preload.so curl -sS --cacert /tmp/tls/cert.pem https://localhost:4499/
  }
  if shared >/tmp/out 2>&1; then fail "without tlsd"; fi
  printf '%s\n' '[privsep]' 'runtime_dir = "/tmp/tls/run"' 'uid_base = 64100' \
    '[tlsd]' 'socket = "/tmp/tls/socket"' 'ports = [4499]' 'ca = "/tmp/tls/cert.pem"' \
    '[[tls_session]]' 'name = "*"' 'remote = "localhost:4499"' 'addresses = ["127.0.0.1"]' 'open = ["*"]' >/tmp/tls/broker.toml
  gatehouse serve -c /tmp/tls/broker.toml 2>/tmp/tlslog &
  sessions=$!
  within test -S /tmp/tls/socket
  shared >/tmp/out || { cat /tmp/out /tmp/tlslog; fail "no session"; }
  grep -q TLS_AES /tmp/out || fail "not what the server says"
  kill $sessions $server
  wait $sessions
  rm -r /tmp/tls
  dpkg -P gatehouse-preload
fi

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
