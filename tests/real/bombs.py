#!/usr/bin/env python3
"""Requests that make much of little, one after the other and all at once, beside a steady sender.

Each step sends valid requests whose memory or work is out of proportion to their size. The server must live, answer
every one of them (yes, or no with the name of a limit), take every write of the steady sender, and stay below
`--memory-bytes` plus 10 percent, as the kernel counts its peak (VmHWM). By itself: `bombs.py --bin tidelake --memory-mb 1024`.
"""
import argparse
import gzip
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import Tidelake, folder, request  # noqa: E402
from remote_write import message, nested, snappy, varint  # noqa: E402

MB = 1 << 20
ALLOWED_EXCESS = 1.1
# The short form runs on machines of any load, where threads finish together that otherwise do not.
ALLOWED_EXCESS_SHORT = 1.4
RETRIES = 60
SQL = [
    "SELECT repeat('x', 1000000000)",
    "SELECT repeat('x', 2000000000)",
    "SELECT array_length(range(0, 1000000000))",
    "SELECT string_agg(repeat('x', 1000000), '') FROM generate_series(1, 5000)",
    "SELECT replace(repeat('x',1000000), 'x', repeat('y',1000000))",
    "SELECT regexp_replace(repeat('x',1000000), 'x', repeat('b',10000), 'g')",
    "SELECT array_repeat('xxxxxxxxxx', 1000000000)",
    "SELECT lpad('x', 2000000000, 'y')",
    "SELECT array_agg(repeat('x', 100000)) FROM generate_series(1, 100000)",
    "SELECT count(*) FROM generate_series(1, 100000) a CROSS JOIN generate_series(1, 100000) b WHERE a.value + b.value = 3",
    "SELECT string_agg(repeat('x', 10000), '') OVER (ORDER BY value ROWS UNBOUNDED PRECEDING) FROM generate_series(1, 20000)",
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
    "SELECT levenshtein(repeat('ab', 1000000), repeat('ba', 1000000))",
]
DOUBLED = 'label_replace(vector(1), "a", "xxxxxxxxxxxxxxxx", "", "")'
for _ in range(20):
    DOUBLED = f'label_join({DOUBLED}, "a", "", "a", "a")'
PROMQL = ["vector(1)[1y:1s]", DOUBLED, "sum_over_time(vector(1)[1y:1s])", 'count_values("v", vector(1)[30d:1s])']


def process_figures(pid):
    """Peak of the resident memory in bytes since the last call, and processor seconds so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak, (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def sparse_lines(lines, fields):
    """Machines that send one field a line: a measurement of many fields of which each line has one."""
    return "\n".join(f"m2,a={i % fields} c{i % fields}=1 {i}" for i in range(lines)).encode()


def empty_samples(count):
    """A remote-write body of one series with many samples of two bytes each, as Snappy writes repetitions."""
    labels = b"".join(nested(1, nested(1, n) + nested(2, v)) for n, v in [(b"__name__", b"empty"), (b"k", b"v")])
    head = b"\x0a" + varint(len(labels) + 2 * count) + labels
    first = head + b"\x12\x00" * 64
    copies, rest = divmod(2 * (count - 64), 64)
    out = varint(len(head) + 2 * count) + struct.pack("<BH", 61 << 2, len(first) - 1) + first
    out += (bytes([63 << 2 | 2]) + struct.pack("<H", 64)) * copies
    return out + (bytes([(rest - 1) << 2 | 2]) + struct.pack("<H", 64) if rest else b"")


class Steady:
    """A sender of a few samples again and again, as a Prometheus is: it must never notice anything."""

    def __init__(self, url, samples_per_second):
        self.url, self.batch = url, max(1, samples_per_second // 10)
        self.latencies, self.failed, self.stopped = [], [], threading.Event()
        self.health = []
        # In a process of its own: here it would wait for the threads that make the bodies.
        self.probe = subprocess.Popen([sys.executable, __file__, "--probe", url], stdout=subprocess.PIPE, text=True)
        self.threads = [threading.Thread(target=self.send), threading.Thread(target=self.note_health)]
        [thread.start() for thread in self.threads]

    def send(self):
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
        series = [{"__name__": "steady", "instance": str(i)} for i in range(self.batch)]
        while not self.stopped.wait(0.1):
            now = time.time_ns() // 1_000_000
            body = snappy(message([(labels, [(now, 1.0)]) for labels in series]))
            began = time.monotonic()
            try:
                status, answer = request(f"{self.url}/api/v1/write", body, headers, timeout=30)
                if status not in (200, 204):
                    self.failed.append(f"{status} {answer[:200]}")
            except OSError as error:
                self.failed.append(repr(error))
            self.latencies.append(time.monotonic() - began)

    def note_health(self):
        for line in self.probe.stdout:
            taken, failure = line.rstrip("\n").split(" ", 1)
            self.health.append(float(taken))
            if failure:
                self.failed.append(f"health {failure}")

    def stop(self):
        self.stopped.set()
        self.probe.kill()
        self.probe.wait()
        [thread.join() for thread in self.threads]

    def take(self):
        """p99 of writes and of health checks in milliseconds since the last call."""
        taken = (sorted(self.latencies), sorted(self.health))
        self.latencies, self.health = [], []
        return [round(1000 * all[int(len(all) * 0.99)]) if all else 0 for all in taken]


def probe(url):
    """Asks for the health fifty times a second, until it is killed: a line for each answer with its seconds and, if
    it was none, why. As on a machine of its own it does not wait for a processor where that may be asked for."""
    try:
        os.nice(-10)
    except PermissionError:
        pass
    while True:
        time.sleep(0.02)
        began, failure = time.monotonic(), ""
        try:
            status = request(f"{url}/health", timeout=30)[0]
            failure = "" if status == 200 else str(status)
        except OSError as error:
            failure = repr(error).replace("\n", " ")
        print(time.monotonic() - began, failure, flush=True)


class Bombs:
    def __init__(self, url, scale):
        self.url, self.scale, self.statuses, self.bad = url, scale, {}, []

    def count(self, what, status, text):
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status in (400, 408, 413, 422, 503, 200, 204):
            return
        self.bad.append(f"{what[:80]}: {status} {text[:300]}")

    def ask(self, path, what, **params):
        try:
            status, text = request(f"{self.url}{path}?{urllib.parse.urlencode(params)}", timeout=150)
        except OSError as error:
            status, text = "broken", repr(error)
        except UnicodeDecodeError:
            status, text = 200, ""
        # An answer that breaks off after its head has been sent says so by its end.
        if status == "broken" and "IncompleteRead" in text:
            status = 200
        self.count(what, status, text)

    def write(self, path, body, headers):
        try:
            status, text = request(f"{self.url}{path}", body, headers, timeout=150)
        except OSError as error:
            status, text = "broken", repr(error)
        self.count(path, status, text)
        return status

    def at_once(self, jobs):
        with ThreadPoolExecutor(len(jobs)) as pool:
            list(pool.map(lambda job: job(), jobs))

    def sparse(self):
        """Taken at last: the client does as it is told and sends again later."""
        body = gzip.compress(sparse_lines(int(410_000 * self.scale), 1_990), 1)
        for _ in range(RETRIES):
            if self.write("/api/v2/write?bucket=default", body, {"Content-Encoding": "gzip"}) == 204:
                return
            time.sleep(1)
        self.bad.append("the sparse body was never taken")

    def empty(self):
        body = empty_samples(int(15_000_000 * self.scale))
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
        self.at_once([lambda: self.write("/api/v1/write", body, headers)] * 8)

    def short_lines(self):
        body = gzip.compress(b"m a=1\n" * int(1_700_000 * self.scale), 6)
        self.at_once([lambda: self.write("/api/v2/write?bucket=default", body, {"Content-Encoding": "gzip"})] * 20)

    def new_series(self):
        count = int(1_000_000 * self.scale)
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
        now = time.time_ns() // 1_000_000
        for start in range(0, count, 20_000):
            labels = lambda i: {"__name__": "fresh_total", "job": "bombs", "instance": f"host-{i // 50}:9100", "path": f"/p/{i}"}
            series = [(labels(i), [(now + at, float(i)) for at in range(6)]) for i in range(start, min(count, start + 20_000))]
            body = snappy(message(series))
            for _ in range(RETRIES):
                if self.write("/api/v1/write", body, headers) in (200, 204):
                    break
                time.sleep(0.5)
            else:
                self.bad.append("new series were never taken")

    def flush(self):
        status, text = request(f"{self.url}/admin/flush", b"", method="POST", timeout=300)
        self.count("flush", status, text)

    def sql(self):
        for query in SQL:
            self.ask("/api/v3/query_sql", query, db="default", q=query)

    def promql(self):
        for query in PROMQL:
            self.ask("/api/v1/query", query, query=query)

    def stalled(self, seconds=8):
        """Clients that ask for everything and read nothing."""
        port = urllib.parse.urlparse(self.url).port
        now = int(time.time())
        query = urllib.parse.urlencode({"query": "{__name__=~'.+'}", "start": now - 900, "end": now, "step": 1})
        sockets = []
        for _ in range(52):
            s = socket.create_connection(("127.0.0.1", port))
            s.sendall(f"GET /api/v1/query_range?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            sockets.append(s)
        time.sleep(seconds)
        [s.close() for s in sockets]

    def all(self):
        self.at_once([self.sparse, self.empty, self.short_lines, self.sql, self.promql, self.stalled])


STEPS = ["sparse", "flush", "empty", "short_lines", "new_series", "flush", "sql", "promql", "stalled", "all"]


def attack(binary, memory_mb, scale, samples_per_second, allowed=ALLOWED_EXCESS, say=print):
    """Runs the steps; returns their figures and what was wrong."""
    wrong, rows = [], []
    with folder() as place:
        more = ["--memory-bytes", str(memory_mb * MB), "--write-timeout-ms", "3000", "--query-timeout-ms", "20000"]
        server = Tidelake(binary, place, more=more)
        with server:
            steady = Steady(server.url, samples_per_second)
            try:
                for step in STEPS:
                    bombs = Bombs(server.url, scale)
                    _, cpu = process_figures(server.child.pid)
                    began = time.monotonic()
                    getattr(bombs, step)()
                    server.check_alive()
                    seconds = time.monotonic() - began
                    peak, cpu_after = process_figures(server.child.pid)
                    write_p99, health_p99 = steady.take()
                    statuses = " ".join(f"{status}:{n}" for status, n in sorted(bombs.statuses.items(), key=str))
                    say(
                        f"{step:12} {seconds:6.1f} s, CPU {cpu_after - cpu:6.1f} s, peak {peak / MB:6.0f} MB, "
                        f"write p99 {write_p99} ms, health p99 {health_p99} ms, {statuses}",
                        flush=True,
                    )
                    rows.append((step, peak, health_p99, write_p99))
                    wrong += bombs.bad
                    if peak > memory_mb * MB * allowed:
                        wrong.append(f"{step}: the peak of {peak / MB:.0f} MB is beyond {allowed} times {memory_mb} MB")
            finally:
                steady.stop()
            if steady.failed:
                wrong.append(f"{len(steady.failed)} writes or health checks of the steady sender failed: {steady.failed[0]}")
            panics = [line for line in request(f"{server.url}/metrics")[1].splitlines() if line.startswith("tidelake_panics_total ")]
            if [float(line.split()[1]) for line in panics] != [0.0]:
                wrong.append(f"panics: {panics}")
            # What was acknowledged can be replayed in the memory that took it.
            server.stop(signal.SIGKILL)
        with Tidelake(binary, place, more=more) as again:
            peak, cpu = process_figures(again.child.pid)
            say(f"{'restart':12} CPU {cpu:6.1f} s, peak {peak / MB:6.0f} MB", flush=True)
            if peak > memory_mb * MB * allowed:
                wrong.append(f"restart: the peak of {peak / MB:.0f} MB is beyond {allowed} times {memory_mb} MB")
    return rows, wrong


def run(options):
    """The short form, for run.py."""
    rows, wrong = attack(options.bin, 1024, 0.1, 1_000, ALLOWED_EXCESS_SHORT)
    assert not wrong, "; ".join(wrong)
    return f"highest peak {max(row[1] for row in rows) / MB:.0f} MB of 1024, no request without an answer"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", help="the server")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    parser.add_argument("--memory-mb", type=int, default=1024)
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full size of the bodies")
    parser.add_argument("--samples-per-second", type=int, default=20_000, help="of the steady sender")
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args()
    if options.probe:
        probe(options.probe)
    if not options.bin:
        parser.error("which server? (--bin)")
    rows, wrong = attack(options.bin, options.memory_mb, options.scale, options.samples_per_second)
    if options.json:
        Path(options.json).write_text(json.dumps(rows))
    for line in wrong:
        print(f"WRONG {line}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
