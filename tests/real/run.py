#!/usr/bin/env python3
"""Runs the tests that need other programs; install.sh installs those. Closes with `N passed, N failed, N skipped`."""
import argparse
import importlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import ROOT, VENV, Skipped  # noqa: E402

TESTS = [
    "bombs", "influx_client", "influx_clients", "remote_writers", "overload", "pushgateway", "imports", "otlp_sdk", "otlp_random",
    "flight", "postgres", "postgres_door", "parquet_readers", "promql_syntax", "promql_fuzz",
    "influxql_fuzz", "cluster", "upgrade", "s3", "doctor", "helm", "front_door", "openapi", "cli", "ui", "operators", "grafana", "refusals", "remote_read", "prometheus",
]


def default_binary():
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "tidelake"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", default=str(default_binary()), help="the server; built with cargo if it is the default")
    parser.add_argument("--only", action="append", choices=TESTS)
    parser.add_argument("--prometheus-seconds", type=int, default=120, help="how long Prometheus scrapes")
    options = parser.parse_args()
    python = VENV / "bin" / "python"
    if python.exists() and Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(python, [str(python), *sys.argv])
    if options.bin == str(default_binary()) and os.system(f"cd '{ROOT}' && cargo build --locked --quiet --bin tidelake") != 0:
        sys.exit("cargo build failed")
    if not os.access(options.bin, os.X_OK):
        sys.exit(f"there is no program {options.bin}")
    # An end from outside unwinds too, so that every process that was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name in options.only or TESTS:
        began = time.monotonic()
        try:
            figures = importlib.import_module(name).run(options)
            counts["passed"] += 1
            print(f"ok {name} ({time.monotonic() - began:.0f} s): {figures}", flush=True)
        except Skipped as reason:
            counts["skipped"] += 1
            print(f"skipped: {reason} ({name})", flush=True)
        except Exception as error:
            counts["failed"] += 1
            print(f"FAIL {name}: {error}", flush=True)
            traceback.print_exc()
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    sys.exit(counts["failed"] > 0)


main()
