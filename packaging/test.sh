#!/bin/bash
# test.sh tries the packages, as `make test-packages` runs it, as root: what is in them,
# what lintian and rpmlint say, and the life of the .deb in a Debian tree of its own,
# without a service manager. What is not installed here is skipped, and said.
# usage: test.sh DIST1 DIST2, as build.sh has made them of two versions
set -euo pipefail
here=$(realpath "$(dirname "$0")") one=$(realpath "$1") two=$(realpath "$2")
deb1=$(echo "$one"/gatehouse_*.deb) deb2=$(echo "$two"/gatehouse_*.deb) rpm1=$(echo "$one"/gatehouse-[0-9]*.rpm)
libdeb=$(echo "$one"/gatehouse-preload_*.deb) librpm=$(echo "$one"/gatehouse-preload-[0-9]*.rpm)

has() { command -v "$1" >/dev/null || { echo "SKIP $1: not installed"; return 1; }; }

debs=("$deb1") rpms=("$rpm1")
if [ -e "$libdeb" ]; then
  debs+=("$libdeb") rpms+=("$librpm")
else
  echo "SKIP gatehouse-preload: there is no package of it"
fi

in_deb() { dpkg-deb -c "$1" | awk '$6 !~ "/$" {print $1, $2, substr($6, 2)}' | LC_ALL=C sort -k 3; }
in_rpm() { rpm -qp --qf '[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\n]' "$1" | LC_ALL=C sort -k 3; }

diff -u "$here/deb/files" <(in_deb "$deb1")
if [ -e "$libdeb" ]; then diff -u "$here/deb/preload.files" <(in_deb "$libdeb"); fi
dpkg-deb -I "$deb1" conffiles | diff -u - <(printf '%s\n' /etc/gatehouse/broker.toml /etc/logrotate.d/gatehouse)
if has rpm; then
  diff -u "$here/rpm/files" <(in_rpm "$rpm1")
  if [ -e "$librpm" ]; then diff -u "$here/rpm/preload.files" <(in_rpm "$librpm"); fi
  rpm -qp --scripts "$rpm1" | grep -q '^/usr/lib/gatehouse/setup'
  rpm -qpc "$rpm1" | diff -u - <(printf '%s\n' /etc/gatehouse/broker.toml /etc/logrotate.d/gatehouse)
fi
if has lintian; then
  lintian --allow-root --fail-on error,warning "${debs[@]}"
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
    mkdir "$top/root/tmp/rpms"
    cp "$1" "$top/root/tmp/"
    cp "${@:2}" "$top/root/tmp/rpms/"
    chroot "$top/root" rpmlint --strict --config "/tmp/${1##*/}" /tmp/rpms
    umount -R "$top"' - "$here/rpm/rpmlint.toml" "${rpms[@]}"
fi
has debootstrap || exit 0

tree=$(mktemp -d)
chmod 755 "$tree" # its root, for whoever is not root there
trap 'rm -rf --one-file-system "$tree"' EXIT
debootstrap --variant=minbase --include=curl,openssl ${SUITE:-bookworm} "$tree" ${MIRROR:-} >"$tree.log" || { tail "$tree.log"; exit 1; }
rm "$tree.log"
cp "$deb1" "$tree/1.deb"
cp "$deb2" "$tree/2.deb"
if [ -e "$libdeb" ]; then cp "$libdeb" "$tree/preload.deb"; fi
cp "$here/test-tree.sh" "$tree/"
# Its processes end with its first, its mounts with the last.
unshare --mount --net --pid --fork --kill-child bash -c '
  ip link set lo up
  mount -t proc proc "$1/proc"
  mount --rbind /dev "$1/dev"
  exec chroot "$1" /test-tree.sh' - "$tree"
