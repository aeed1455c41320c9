#!/bin/bash
# test-systemd.sh boots a Debian tree of its own with systemd and has the .deb live there,
# as `make test-systemd` runs it, as root. It skips, and says so, where that is not possible.
# usage: test-systemd.sh DIST1 DIST2, as build.sh has made them of two versions
set -euo pipefail
here=$(realpath "$(dirname "$0")") one=$(realpath "$1") two=$(realpath "$2")

[ "$(id -u)" = 0 ] || { echo "SKIP test-systemd: needs root"; exit 0; }
for tool in debootstrap systemd-nspawn; do
  command -v $tool >/dev/null || { echo "SKIP test-systemd: $tool is not installed"; exit 0; }
done

tree=$(mktemp -d)
trap 'rm -rf --one-file-system "$tree" "$tree.log"' EXIT
debootstrap --variant=minbase --include=systemd-sysv ${SUITE:-bookworm} "$tree" ${MIRROR:-} >"$tree.log" || { tail "$tree.log"; exit 1; }
cp "$one"/gatehouse_*.deb "$tree/1.deb"
cp "$two"/gatehouse_*.deb "$tree/2.deb"
cp "$here/test-systemd-tree.sh" "$tree/"
cat >"$tree/etc/systemd/system/test.service" <<'END'
[Service]
Type=oneshot
ExecStart=/test-systemd-tree.sh
ExecStopPost=/bin/sh -c 'echo $EXIT_STATUS >/status; exec systemctl --no-block start poweroff.target'
StandardOutput=append:/log
StandardError=append:/log
TimeoutStartSec=300

[Install]
WantedBy=multi-user.target
END
systemctl --root="$tree" --quiet enable test.service

# What a broker does beyond nspawn's defaults; it is no machine of this host's manager.
timeout 600 systemd-nspawn --quiet --boot --directory="$tree" --private-network --register=no --keep-unit --console=pipe \
  --capability=CAP_IPC_LOCK,CAP_SYS_PTRACE \
  --system-call-filter="memfd_secret pidfd_getfd landlock_* seccomp @memlock setns unshare" \
  </dev/null >"$tree.log" 2>&1 || { cat "$tree/log" || tail -n 50 "$tree.log"; exit 1; }
cat "$tree/log"
if [ "$(cat "$tree/status" || :)" = 0 ]; then exit; fi
tail -n 50 "$tree.log"
exit 1
