"""A real Prometheus without a sample of its own reads everything from Tidelake; both must answer alike."""
import json
import math
import random
import struct
import time
from pathlib import Path

from harness import Process, Skipped, Tidelake, eventually, folder, free_port, program, prometheus_api, request
from remote_write import nested, send, varint

CONFIG = """
remote_read:
- url: http://127.0.0.1:{port}/api/v1/read
  read_recent: true
"""

INTERVAL_MS = 15_000
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]

QUERIES = """
counter
rate(counter[5m])
increase(counter[20m])
sum by (job) (rate(counter[1m]))
irate(counter[2m])
resets(counter[3h])
gauge
max_over_time(gauge[7m])
sum(gauge)
count_over_time(gauge[10m])
changes(gauge[30m])
quantile_over_time(0.9, gauge[1h])
stddev(many)
sum by (group) (many)
topk(5, many)
many{number=~"1.."}
many{number!~"1..|2.", group!="0"}
count({__name__=~"many|zoned|counter"})
{__name__=~"zoned|gauge", Zone=~".*"}
count by (Zone) (zoned)
timestamp(gauge)
absent(nothing{job="x"})
last_over_time(gauge[2h] offset 30m)
rate(counter[5m] @ end())
max_over_time(sum(rate(counter[1m]))[30m:1m])
odd
cpu_usage_user
avg by (host) (avg_over_time(cpu_usage_user[5m]))
{__name__=~"cpu_.+", host="a"}
cpu_usage_system / on (host) cpu_usage_user
distribution
distribution{kind="gauge"}
""".strip().splitlines()

# Whole series, as they are.
RAW = ["counter", "gauge", "many", "zoned", "odd", "cpu_usage_user", "distribution", '{__name__=~".+"}']


def run(options):
    prometheus = program("prometheus")
    own = free_port()
    reference = f"http://127.0.0.1:{own}"
    with folder() as place, Tidelake(options.bin, place) as server:
        config = Path(place) / "prometheus.yml"
        config.write_text(CONFIG.format(port=server.port))
        command = [
            prometheus,
            f"--config.file={config}",
            f"--storage.tsdb.path={place}/tsdb",
            f"--web.listen-address=127.0.0.1:{own}",
            "--enable-feature=native-histograms",
        ]
        with Process(command, Path(place) / "prometheus.log"):
            eventually("Prometheus ready", lambda: request(f"{reference}/-/ready")[0] == 200)
            version = prometheus_api(reference, "status/buildinfo")["version"]
            if int(version.split(".")[0]) < 3:
                raise Skipped(f"prometheus 3 not found (there is {version}, whose windows have other edges)")
            # Whole minutes, so that times of steps are times of samples too.
            end = int(time.time()) // 60 * 60
            write(server, end)
            figures = compare(reference, server.url, end)
            status, text = request(f"{reference}/metrics")
            chunked = [line for line in text.splitlines() if "remote" in line and "read" in line and 'response_type="chunked"' in line]
            assert status == 200 and any(float(line.rsplit(" ", 1)[1]) > 0 for line in chunked), "Prometheus did not read chunks"
            return figures


def write(server, end):
    """Three hours: a part merged, a part in fresh files, a part in memory."""
    series, lines = data(end)
    for at, share in enumerate([0.5, 0.8, 1.0]):
        low, high = ((end - 10_800 * (1 - s)) * 1000 for s in ([0, 0.5, 0.8][at], share))
        part = [(labels, [s for s in samples if low <= s[0] < high or share == 1.0 and s[0] == high]) for labels, samples in series]
        send(server.url, [(labels, samples) for labels, samples in part if samples])
        server.lines("\n".join(line for time_ms, line in lines if low <= time_ms < high))
        if share < 1:
            server.post("/admin/flush")
        if share == 0.5:
            server.post("/admin/compact")


def data(end):
    rnd = random.Random(5)
    times = [end * 1000 - at * INTERVAL_MS for at in range(720, -1, -1)]
    series = []

    def put(name, values, **labels):
        found = [(t, v) for t, v in zip(times, values) if v is not None]
        series.append(({"__name__": name, **labels}, found))

    for job in "ab":
        for instance in range(3):
            value, values = 0.0, []
            for at in range(len(times)):
                value = 0.0 if at == 300 + 50 * instance else value + rnd.random() * 10
                gap = job == "b" and 400 <= at < 480
                values.append(None if gap else value)
            put("counter", values, job=job, instance=str(instance))
    for number in range(5):
        values = [math.sin(at / 20 + number) * 100 for at in range(len(times))]
        values[100 + number] = float("nan")
        # A target that is gone for a while, one that is gone for good, and one whose times are not quite regular.
        values[200:240] = [STALE] + [None] * 39
        if number == 4:
            values[500:] = [STALE] + [None] * (len(values) - 501)
        put("gauge", values, number=str(number))
    jitter = [(t + rnd.randrange(-3000, 3000), rnd.choice([0.1, 0.25, -1e300, 5e-324, 2.0**60])) for t in times]
    series.append(({"__name__": "odd", "kind": "jitter"}, jitter))
    put("odd", [rnd.choice([math.inf, -math.inf, -0.0, 0.0, math.nan, 1.0]) for _ in times], kind="special")
    for number in range(300):
        put("many", [float(at * number) for at in range(0, len(times))][:: 1 if number % 3 else 2] + [None] * 361, number=str(number), group=str(number % 7))
    # Labels that come before the name.
    for zone in ["1", "2", "10"]:
        put("zoned", [float(at) for at in range(len(times))], Zone=zone)
    put("zoned", [1.0] * len(times))
    series += histograms(times)
    lines = []
    for host in "abc":
        for at, t in enumerate(times):
            lines.append((t, f"cpu,host={host} usage_user={at % 50 + ord(host)},usage_system={at}i {t * 1_000_000}"))
    return series, lines


class Histogram:
    """A native histogram with whole counts: `buckets` follow each other from number `first` on."""

    def __init__(self, schema, total, sum, zero, first, buckets, gauge=False):
        self.schema, self.total, self.sum, self.zero, self.first, self.buckets, self.gauge = schema, total, sum, zero, first, buckets, gauge

    def message(self, time):
        deltas = b"".join(zigzag(count - before) for before, count in zip([0, *self.buckets], self.buckets))
        out = b"\x08" + varint(self.total) + double(3, self.sum) + b"\x20" + zigzag(self.schema) + double(5, 0.001) + b"\x30" + varint(self.zero)
        if self.buckets:
            out += nested(11, b"\x08" + zigzag(self.first) + b"\x10" + varint(len(self.buckets))) + nested(12, deltas)
        return out + b"\x70" + varint(3 if self.gauge else 0) + b"\x78" + varint(time)


def zigzag(n):
    return varint(n << 1 ^ n >> 63)


def double(number, value):
    return varint(number << 3 | 1) + struct.pack("<d", value)


def histograms(times):
    """One that grows, changes its layout and is reset; one that goes up and down; one with gaps and stale markers."""
    grow, gauge, gone = [], [], []
    counts = [0, 0, 0, 0]
    for at, t in enumerate(times):
        counts = [0, 0, 1, 0] if at == 350 else [count + at % (2 + place) for place, count in enumerate(counts)]
        buckets = counts if at < 500 else counts + [at]
        grow.append((t, Histogram(schema=1, total=sum(buckets) + 3, sum=at * 1.5, zero=3, first=-2, buckets=buckets)))
        level = [at % 7, at % 5]
        gauge.append((t, Histogram(schema=0, total=sum(level), sum=-1.0, zero=0, first=0, buckets=level, gauge=True)))
        if not 100 <= at < 140:
            gone.append((t, Histogram(schema=3, total=at, sum=0.5, zero=0, first=10, buckets=[at])))
        elif at == 100:
            gone.append((t, Histogram(schema=0, total=0, sum=STALE, zero=0, first=0, buckets=[])))
    found = {"grow": grow, "gauge": gauge, "gone": gone}
    return [({"__name__": "distribution", "kind": kind}, samples) for kind, samples in found.items()]


def compare(reference, subject, end):
    samples = 0
    for selector in RAW:
        samples = alike("query", f"{selector}[3h]", reference, subject, time=end)
    filled = 0
    for query in QUERIES:
        for at in (end, end - 3007.5, end - 10_000):
            filled += alike("query", query, reference, subject, time=at) > 0
        alike("query_range", query, reference, subject, start=end - 10_700, end=end, step=60)
        alike("query_range", query, reference, subject, start=end - 3600, end=end, step=7)
    assert filled > 2 * len(QUERIES), f"only {filled} answers had anything in them"
    return f"{samples:,} samples and {len(QUERIES)} queries alike"


def alike(path, query, reference, subject, **params):
    """Fails if the two do not answer alike; how many samples there are."""
    want, got = (answer(url, path, query, params) for url in (reference, subject))
    assert want.keys() == got.keys(), f"{path} {query} {params}: on one side only: {sorted(want.keys() ^ got.keys())[:3]}"
    for labels, samples in want.items():
        there = got[labels]
        assert len(samples) == len(there), f"{path} {query} {params} {labels}: {len(samples)} samples against {len(there)}"
        for one, other in zip(samples, there):
            assert same(one, other), f"{path} {query} {params} {labels}: {one} against {other}"
    return sum(map(len, want.values()))


def answer(url, path, query, params):
    result = prometheus_api(url, path, query=query, **params)["result"]
    found = {}
    for series in result:
        samples = series.get("values", []) + series.get("histograms", [])
        samples += [series[name] for name in ("value", "histogram") if name in series]
        labels = tuple(sorted(series["metric"].items()))
        assert labels not in found, f"{path} {query}: {labels} twice"
        found[labels] = samples
    return found


def same(one, other):
    if one[0] != other[0] or isinstance(one[1], dict) or isinstance(other[1], dict):
        return json.dumps(one) == json.dumps(other)
    a, b = float(one[1]), float(other[1])
    return a == b or (a != a and b != b) or abs(a - b) <= 1e-9 * max(abs(a), abs(b))
