#!/usr/bin/env python3
"""How long a dashboard waits beside heavy work: alone, beside a heavy query, beside merges, beside both.

    tests/bench/classes.py --bin target/release/tidelake

Starts a server of its own, writes samples like those of node_exporter, and asks as Grafana does: at
fixed times, whether or not the last answer has come, so that a query that waits is counted as long as
it waited. What runs beside is asked in a loop by one client each. Only the standard library is used.
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

STEP_S = 30
IMPORT = "/api/v1/import/prometheus"
METRICS = ["load1", "memory_bytes", "cpu_seconds_total", "disk_bytes_total", "net_bytes_total"]
PER_METRIC = {"cpu_seconds_total": 4, "disk_bytes_total": 2, "net_bytes_total": 2}
GRAFANA = {"User-Agent": "Grafana/11.0.0", "X-Dashboard-Uid": "bench", "X-Grafana-Org-Id": "1"}
PANELS = [
    "load1",
    'rate(cpu_seconds_total{instance="host-%d"}[5m])',
    "sum by (mode) (rate(cpu_seconds_total[5m]))",
    'memory_bytes{instance="host-%d"}',
]
HEAVY_PROMQL = 'sum by (instance) (rate({__name__=~".+_total"}[5m]))'
HEAVY_SQL = "SELECT instance, count(*), avg(value), max(value) FROM metrics.{metric} GROUP BY instance"


class Server:
    """A server of its own, in a folder that goes with it."""

    def __init__(self, args):
        self.port, self.folder = args.port, Path(tempfile.mkdtemp(prefix="classes-", dir=args.dir))
        command = [args.bin, "serve", "--data-dir", str(self.folder / "data"), "--listen", f"127.0.0.1:{args.port}",
                   "--pg-listen", "", *args.server_arg]
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 60
        while self.ask("GET", "/ready", patience=1)[0] != 200:
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit(f"the server did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.1)

    def connection(self, patience=600):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=patience)

    def ask(self, method, path, body=None, headers=None, patience=600):
        """(status, body) on a connection of its own; 0 without one."""
        connection = self.connection(patience)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()

    def need(self, method, path, body=None, headers=None):
        status, text = self.ask(method, path, body, headers)
        if status not in (200, 204):
            raise SystemExit(f"{method} {path} is answered {status}: {text[:500]}")
        return text

    def classes(self):
        """CPU seconds by class, if the server tells, and of the process."""
        found = {}
        for line in self.need("GET", "/metrics").decode().splitlines():
            if line.startswith("tidelake_class_cpu_seconds_total{"):
                name, value = line.split('class="', 1)[1].split('"} ')
                found[name] = float(value.split()[0])
            elif line.startswith("process_cpu_seconds_total "):
                found["process"] = float(line.split()[1])
        return found

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()
        shutil.rmtree(self.folder)


def load(server, hosts, hours, end_s, databases):
    """Writes all samples to each database, a flush each hour."""
    rng, total = random.Random(1), 0
    for hour in range(hours):
        begin = end_s - (hours - hour) * 3600
        for part in range(0, 3600, 600):
            lines = []
            for second in range(part, part + 600, STEP_S):
                at = (begin + second) * 1000
                for host in range(hosts):
                    for metric in METRICS:
                        for k in range(PER_METRIC.get(metric, 1)):
                            value = (begin + second - end_s + 1e6) * (k + 1) if "total" in metric else 0
                            lines.append(f'{metric}{{instance="host-{host}",mode="{k}"}} {value + rng.randrange(60)} {at}')
            for database in databases:
                server.need("POST", IMPORT, "\n".join(lines) + "\n", {"X-Scope-OrgID": database})
            total += len(lines)
        server.need("POST", "/admin/flush")
    return total


def merge(server, end_s, database):
    """A late sample, for which a day is merged anew, all of it."""
    late = f'load1{{instance="late"}} 1 {(end_s - random.randrange(7200)) * 1000}\n'
    server.need("POST", IMPORT, late, {"X-Scope-OrgID": database})
    server.need("POST", "/admin/flush")
    server.need("POST", "/admin/compact")


def dashboard(args):
    """Asks a panel at each tick; prints the times as JSON. Runs as a process of its own."""
    try:
        os.nice(-15)  # As if it were on another machine.
    except OSError:
        pass
    local, times, lock = threading.local(), [], threading.Lock()
    headers = GRAFANA if args.grafana else {}

    def ask(at, number):
        host = number * 7 % args.hosts
        panel = PANELS[number % len(PANELS)]
        query = panel % host if "%d" in panel else panel
        asked = {"query": query, "start": args.end_s - 3600 - number % 600, "end": args.end_s - number % 600, "step": 60}
        path = "/api/v1/query_range?" + urllib.parse.urlencode(asked)
        for _ in range(2):
            try:
                if not hasattr(local, "connection"):
                    local.connection = http.client.HTTPConnection("127.0.0.1", args.port, timeout=120)
                local.connection.request("GET", path, headers=headers)
                answer = local.connection.getresponse()
                answer.read()
                break
            except OSError:
                del local.connection
        with lock:
            times.append((time.monotonic() - at, answer.status))

    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        begin = time.monotonic() + 0.2
        for number in range(int(args.seconds * args.rate)):
            at = begin + number / args.rate
            time.sleep(max(0, at - time.monotonic()))
            pool.submit(ask, at, number)
    print(json.dumps({"ms": [1000 * took for took, _ in times], "failed": sum(status != 200 for _, status in times)}))


def looped(work, stop, took):
    while not stop.is_set():
        begun = time.monotonic()
        work()
        took.append(time.monotonic() - begun)


def measure(server, args, beside):
    """The dashboard's times while the work beside it is done again and again."""
    stop, tooks, threads = threading.Event(), [], []
    for work in beside:
        tooks.append([])
        threads.append(threading.Thread(target=looped, args=(work, stop, tooks[-1])))
        threads[-1].start()
    time.sleep(1 if beside else 0)
    before, begun = server.classes(), time.monotonic()
    command = [sys.executable, __file__, "--dashboard", "--port", str(args.port), "--hosts", str(args.hosts), "--end-s",
               str(args.end_s), "--seconds", str(args.seconds), "--rate", str(args.rate), *(["--grafana"] if args.grafana else [])]
    times = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    wall, after = time.monotonic() - begun, server.classes()
    stop.set()
    for thread in threads:
        thread.join()
    cpu = {name: (after[name] - before.get(name, 0)) / wall for name in after}
    return times, tooks, cpu


def percentile(sorted_ms, share):
    return sorted_ms[min(len(sorted_ms) - 1, int(len(sorted_ms) * share))]


def main(args):
    args.end_s = int(time.time()) // 86400 * 86400 - 600  # All of it on one day that is over.
    server = Server(args)
    try:
        begun = time.monotonic()
        # What is merged is another database, so that what is measured is not what a new file costs its first reader.
        merged = "default" if args.merge_what_is_read else "merged"
        total = load(server, args.hosts, args.hours, args.end_s, {"default", merged})
        loaded = time.monotonic()
        server.need("POST", "/admin/compact")
        print(f"{total:,} samples in each database written in {loaded - begun:.0f} s, merged in {time.monotonic() - loaded:.1f} s", flush=True)
        asked = {"query": HEAVY_PROMQL, "start": args.end_s - 3600 * args.hours, "end": args.end_s, "step": args.heavy_step}
        promql = lambda: server.need("GET", "/api/v1/query_range?" + urllib.parse.urlencode(asked))
        text = urllib.parse.urlencode({"db": "default", "q": HEAVY_SQL.format(metric="cpu_seconds_total")})
        sql = lambda: server.need("GET", "/api/v3/query_sql?" + text)
        merging = lambda: merge(server, args.end_s, merged)
        cases = {"alone": [], "a heavy PromQL query": [promql], "a heavy SQL query": [sql], "merges": [merging],
                 "PromQL and merges": [promql, merging], "all three": [promql, sql, merging]}
        wanted = {name: work for name, work in cases.items() if not args.only or name in args.only}
        measure(server, argparse.Namespace(**{**vars(args), "seconds": 3}), [])  # Caches are warm.
        print("| beside | p50 ms | p90 | p99 | max | p99 : alone | failed | mean s of what runs beside | cores by class |\n|" + "---|" * 9)
        alone = None
        for name, beside in wanted.items():
            times, tooks, cpu = measure(server, args, beside)
            ms = sorted(times["ms"])
            p99 = percentile(ms, 0.99)
            alone = alone or p99
            means = ", ".join(f"{sum(took) / len(took):.2f} (of {len(took)})" for took in tooks)
            cores = ", ".join(f"{name} {used:.2f}" for name, used in cpu.items() if used >= 0.005)
            print(f"| {name} | {percentile(ms, 0.5):.1f} | {percentile(ms, 0.9):.1f} | {p99:.1f} | {ms[-1]:.1f} | {p99 / alone:.2f} "
                  f"| {times['failed']} | {means} | {cores} |", flush=True)
    finally:
        server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="target/release/tidelake")
    parser.add_argument("--port", type=int, default=22080)
    parser.add_argument("--dir", help="where the data lies for as long as it runs")
    parser.add_argument("--hosts", type=int, default=85)
    parser.add_argument("--hours", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30, help="of each case")
    parser.add_argument("--rate", type=float, default=20, help="queries of the dashboard a second")
    parser.add_argument("--heavy-step", type=int, default=60)
    parser.add_argument("--grafana", action="store_true", help="the dashboard shows the headers of Grafana")
    parser.add_argument("--merge-what-is-read", action="store_true", help="merges replace what the dashboard reads")
    parser.add_argument("--only", action="append", help="a case, repeated; all without it")
    parser.add_argument("--server-arg", action="append", default=[])
    parser.add_argument("--dashboard", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--end-s", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    dashboard(arguments) if arguments.dashboard else main(arguments)
