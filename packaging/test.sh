#!/bin/bash
# test.sh tries the packages, as `make test-packages` runs it, as root: what is in them,
# what lintian and rpmlint say, and the life of the .deb in a Debian tree of its own,
# without a service manager. What is not installed here is skipped, and said.
# usage: test.sh DIST1 DIST2, as build.sh has made them of two versions
set -euo pipefail
here=$(realpath "$(dirname "$0")") one=$(realpath "$1") two=$(realpath "$2")
deb1=$(echo "$one"/*.deb) deb2=$(echo "$two"/*.deb) rpm1=$(echo "$one"/*.rpm)

has() { command -v "$1" >/dev/null || { echo "SKIP $1: not installed"; return 1; }; }

diff -u "$here/deb/files" <(dpkg-deb -c "$deb1" | awk '$6 !~ "/$" {print $1, $2, substr($6, 2)}' | LC_ALL=C sort -k 3)
dpkg-deb -I "$deb1" conffiles | diff -u - <(printf '%s\n' /etc/gatehouse/broker.toml /etc/logrotate.d/gatehouse)
if has rpm; then
  diff -u "$here/rpm/files" <(rpm -qp --qf '[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\n]' "$rpm1" | LC_ALL=C sort -k 3)
  rpm -qp --scripts "$rpm1" | grep -q '^/usr/lib/gatehouse/setup'
  rpm -qpc "$rpm1" | diff -u - <(printf '%s\n' /etc/gatehouse/broker.toml /etc/logrotate.d/gatehouse)
fi
if has lintian; then
  lintian --allow-root --fail-on error,warning "$deb1"
fi
if has rpmlint; then
  # It unpacks by names that begin at the root: over this one, which stays as it is.
  unshare --mount bash -euc '
    top=$(mktemp -d)
    trap "rmdir $top" EXIT
    mount -t tmpfs none "$top"
    mkdir "$top/upper" "$top/work" "$top/root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" "$top/root"
    mount --bind /dev "$top/root/dev"
    mount -t proc proc "$top/root/proc"
    cp "$1" "$2" "$top/root/tmp/"
    chroot "$top/root" rpmlint --strict --config "/tmp/${1##*/}" "/tmp/${2##*/}"
    umount -R "$top"' - "$here/rpm/rpmlint.toml" "$rpm1"
fi
has debootstrap || exit 0

tree=$(mktemp -d)
trap 'rm -rf --one-file-system "$tree"' EXIT
debootstrap --variant=minbase ${SUITE:-bookworm} "$tree" ${MIRROR:-} >"$tree.log" || { tail "$tree.log"; exit 1; }
rm "$tree.log"
cp "$deb1" "$tree/1.deb"
cp "$deb2" "$tree/2.deb"
cp "$here/test-tree.sh" "$tree/"
# Its processes end with its first, its mounts with the last.
unshare --mount --net --pid --fork --kill-child bash -c '
  ip link set lo up
  mount -t proc proc "$1/proc"
  mount --rbind /dev "$1/dev"
  exec chroot "$1" /test-tree.sh' - "$tree"
