#!/usr/bin/env bash
# install.sh: Debian's Chromium, for tests of the page; without root, apt or a network there is none,
# and the tests that want it are skipped by name.
set -uo pipefail
command -v chromium >/dev/null && exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
export DEBIAN_FRONTEND=noninteractive
{ apt-get update && apt-get install --yes --no-install-recommends chromium; } >/dev/null 2>&1
command -v chromium >/dev/null || echo "no Chromium could be installed: its tests are skipped"
