"""The web page in Debian's Chromium: what a user does, what must be seen, how fast, and whether it is accessible."""
import json
import os
import subprocess
import time
import uuid
from pathlib import Path

from harness import VENV, Skipped, Tidelake, folder, program, request

NODE_FOLDER = VENV.parent / "node"
HOSTS, FIELDS, POINTS = 100, 10, 1000
SLOW_SQL = "SELECT sum(a.value * b.value) FROM generate_series(1, 2000000) a CROSS JOIN generate_series(1, 2000000) b"


def iso(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def load(server, end):
    """1,000 series with a point a second, of all of which the names are `load_field_N`."""
    for first in range(0, POINTS, 100):
        lines = []
        for at in range(first, first + 100):
            stamp = (end - POINTS + 1 + at) * 1_000_000_000
            for host in range(HOSTS):
                fields = ",".join(f"field_{field}={(host * 7 + field * 13 + at) % 101 + host / 10}" for field in range(FIELDS))
                lines.append(f"load,host=h{host} {fields} {stamp}")
        server.lines("\n".join(lines))


def load_histograms(server, end):
    """A native histogram with exemplars, by OTLP."""
    for step in range(40):
        stamp = f"{end - (39 - step) * 15}000000000"
        count = (step + 1) * 10
        exemplar = {"timeUnixNano": stamp, "asDouble": 0.3, "traceId": uuid.uuid4().hex, "spanId": uuid.uuid4().hex[:16]}
        point = {
            "startTimeUnixNano": f"{end - 3600}000000000", "timeUnixNano": stamp, "count": str(count * 3), "sum": count * 0.5, "scale": 0, "zeroCount": "0",
            "positive": {"offset": -3, "bucketCounts": [str(count), str(count), str(count)]}, "exemplars": [exemplar],
        }
        metric = {"name": "request.latency", "unit": "s", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [point]}}
        body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
        status, text = request(f"{server.url}/v1/metrics", json.dumps(body), {"Content-Type": "application/json"})
        assert status == 200, f"{status} {text}"


def run(options):
    chromium, node = program("chromium"), program("node")
    for name in ("playwright-core", "axe-core"):
        if not (NODE_FOLDER / "node_modules" / name).is_dir():
            raise Skipped(f"{name} not found")
    with folder() as place:
        open_place, guarded_place = Path(place) / "open", Path(place) / "guarded"
        open_place.mkdir()
        guarded_place.mkdir()
        with Tidelake(options.bin, open_place) as server, Tidelake(options.bin, guarded_place, more=["--auth"]) as guarded:
            end = int(time.time())
            load(server, end)
            load_histograms(server, end)
            server.lines(f"up_to_now value=1 {end}000000000\nevil,name=<script>window.hacked\\ \\=\\ 1</script> value=1 {end}000000000")
            token = (guarded.data / "admin-token").read_text().strip()
            status, text = request(f"{guarded.url}/api/v2/write?bucket=default", f"load field_1=1 {end}000000000", {"Authorization": f"Bearer {token}"})
            assert status == 204, f"{status} {text}"
            environment = {
                "CHROMIUM": chromium, "NODE_FOLDER": str(NODE_FOLDER), "OPEN_URL": server.url, "AUTH_URL": guarded.url, "TOKEN": token,
                "FROM": iso(end - POINTS + 1), "TO": iso(end), "SLOW_SQL": SLOW_SQL, "TZ": "Europe/Berlin",
            }
            script = Path(__file__).parent / "ui_browser" / "steps.mjs"
            done = subprocess.run([node, script, os.environ.get("UI_STEP", "")], env={**os.environ, **environment}, capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, f"{done.stdout}{done.stderr}"
            passed = done.stdout.count("\nok ") + done.stdout.startswith("ok ")
            return f"{passed} steps, {done.stdout.strip().splitlines()[-1]}"
