#!/usr/bin/env bash
# test.sh: the status page of a real broker in a headless Chromium, as `make test-page`
# runs it. Screenshots are left in $SHOTS, to be looked at.
set -euo pipefail
cd "$(dirname "$0")"
export GATEHOUSE=${GATEHOUSE:-$PWD/../../gatehouse}
export SHOTS=${SHOTS:-$PWD/shots}
export CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
for need in node npm; do
  command -v "$need" >/dev/null || { echo "SKIP test-page: no $need"; exit 0; }
done
if [ -z "$CHROMIUM" ]; then
  echo 'SKIP test-page: no Chromium (apt-get install chromium)'
  exit 0
fi
if [ ! -d node_modules/playwright-core ] && ! npm ci --no-audit --no-fund; then
  echo 'SKIP test-page: npm cannot get playwright-core and axe-core'
  exit 0
fi
mkdir -p "$SHOTS"
node --test --test-concurrency=1 page.test.mjs
echo "screenshots: $SHOTS"
