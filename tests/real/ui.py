"""The web page in Debian's Chromium: what a user does, what must be seen, how fast, and whether it is accessible."""
import contextlib
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


def load_churn(server, day):
    """On the day before, two series; on the day one of them and two others."""
    pods = [(day - 86400, ("old", "kept")), (day, ("kept", "new-1", "new-2"))]
    server.lines("\n".join(f"churn,pod={pod} value=1 {at}000000000" for at, names in pods for pod in names))


def run(options):
    chromium, node = program("chromium"), program("node")
    for name in ("playwright-core", "axe-core"):
        if not (NODE_FOLDER / "node_modules" / name).is_dir():
            raise Skipped(f"{name} not found")
    with folder() as place:
        open_place, guarded_place, first_place, second_place = [Path(place) / name for name in ("open", "guarded", "first", "second")]
        for each in (open_place, guarded_place, first_place, second_place):
            each.mkdir()
        often = {"TIDELAKE_SELF_MONITORING_INTERVAL_MS": "2000"}
        shared = ["--data-dir", Path(place) / "shared"]
        first = ["--node", "first", "--roles", "ingest,query", "--lease-ms", "2000"]
        second = ["--node", "second", "--roles", "query", "--lease-ms", "2000"]
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(Tidelake(options.bin, open_place, env=often))
            guarded = stack.enter_context(Tidelake(options.bin, guarded_place, more=["--auth"]))
            asked = stack.enter_context(Tidelake(options.bin, first_place, shared, more=first))
            killed = stack.enter_context(Tidelake(options.bin, second_place, shared, more=second))
            end = int(time.time())
            day = end // 86400 * 86400
            load_churn(server, day)
            load(server, end)
            load_histograms(server, end)
            server.lines(f"up_to_now value=1 {end}000000000\nevil,name=<script>window.hacked\\ \\=\\ 1</script> value=1 {end}000000000")
            server.post("/admin/flush")
            token = (guarded.data / "admin-token").read_text().strip()
            status, text = request(f"{guarded.url}/api/v2/write?bucket=default", f"load field_1=1 {end - 60}000000000", {"Authorization": f"Bearer {token}"})
            assert status == 204, f"{status} {text}"
            environment = {
                "CHROMIUM": chromium, "NODE_FOLDER": str(NODE_FOLDER), "OPEN_URL": server.url, "AUTH_URL": guarded.url, "TOKEN": token,
                "FROM": iso(end - POINTS + 1), "TO": iso(end), "SLOW_SQL": SLOW_SQL, "TZ": "Europe/Berlin",
                "DAY": iso(day)[:10], "DAY_BEFORE": iso(day - 86400)[:10], "CLUSTER_URL": asked.url, "KILLED_PID": str(killed.child.pid),
            }
            script = Path(__file__).parent / "ui_browser" / "steps.mjs"
            done = subprocess.run([node, script, os.environ.get("UI_STEP", "")], env={**os.environ, **environment}, capture_output=True, text=True, timeout=900)
            assert done.returncode == 0, f"{done.stdout}{done.stderr}"
            passed = done.stdout.count("\nok ") + done.stdout.startswith("ok ")
            return f"{passed} steps, {done.stdout.strip().splitlines()[-1]}"
