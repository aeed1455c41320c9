#!/bin/sh
# build.sh writes the packages into DIST, as `make packages` runs it.
# usage: build.sh BINARY VERSION DIST
set -eu
umask 022
binary=$(realpath "$1") version=$2
mkdir -p "$3"
dist=$(realpath "$3") stage=$(realpath "$3")/stage
export ARCH=$(go env GOARCH)
export MAINTAINER=${MAINTAINER:-Gatehouse authors <gatehouse@localhost>} VENDOR=${VENDOR:-Gatehouse authors}
cd "$(dirname "$0")"

# The same source gives the same packages.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

# 1.2 of v1.2, 1.2+3.gabc of v1.2-3-gabc; without a tag one that sorts below all of them.
case $version in
  v[0-9]*) PACKAGE_VERSION=$(echo "${version#v}" | sed 's/-/+/; s/-/./g') ;;
  *) PACKAGE_VERSION=0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S)+$(echo "$version" | tr - .) ;;
esac
export PACKAGE_VERSION

rm -rf "$stage" "$dist"/gatehouse[_-]*.deb "$dist"/gatehouse[_-]*.rpm
mkdir "$stage" "$stage/man"
cp -r setup broker.toml logrotate.conf gatehouse.service sysusers.conf tmpfiles.conf nfpm.yaml completion deb rpm "$stage"
cp ../LICENSE ../broker.toml.example "$binary" "$stage"
for page in man/*.[578]; do
  section=$stage/man/man${page##*.}
  mkdir -p "$section"
  gzip -9n < "$page" > "$section/${page##*/}.gz"
done
cat > "$stage/changelog.yml" <<END
- semver: $PACKAGE_VERSION-1
  date: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
  packager: $MAINTAINER
  deb: {urgency: medium, distributions: [stable]}
  changes:
    - note: Packaged from the source of version $version, whose history says what is new.
END

nfpm=$(GOEXPERIMENT= go tool -n nfpm)
cd "$stage"
for kind in deb rpm; do
  "$nfpm" package -p $kind -t "$dist/"
done
