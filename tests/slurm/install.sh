#!/usr/bin/env bash
# install.sh: Debian's SLURM and munge, for tests; without root, apt or a network there is none, and
# the tests that want it are skipped by name.
set -uo pipefail
command -v slurmctld >/dev/null && command -v munged >/dev/null && exit 0
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
export DEBIAN_FRONTEND=noninteractive
{ apt-get update && apt-get install --yes --no-install-recommends slurm-wlm munge; } >/dev/null 2>&1
command -v slurmctld >/dev/null || echo "no SLURM could be installed: its tests are skipped"
