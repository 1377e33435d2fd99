"""Random series that have what makes PromQL hard: gaps, staleness, resets, odd floats, labels that overlap in part."""
import math
import struct
from itertools import groupby

BEGIN = 1_767_225_600_000  # 2026-01-01T00:00:00Z, in milliseconds
MINUTES = 45
END = BEGIN + MINUTES * 60_000
STALE = struct.pack("<Q", 0x7FF0000000000002)  # as bytes, because a float may lose the payload
ODD = [0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 1e-300, 1e15 + 0.5, 2.0**53, 0.1, 1e100, -1e100]

# Names that selectors choose from, with how often.
FLOATS = {
    "gauge": 6,
    "gauge_other": 5,
    "events_total": 6,
    "restarts_total": 4,
    "level": 4,
    "odd": 2,
    "sparse": 3,
    "constant": 2,
    "latency_bucket": 3,
    "latency_count": 1,
    "latency_sum": 1,
    "target_info": 2,
    "build_info": 1,
    "missing": 1,
}
UTF8 = {"http.requests": 2}
LABELS = {
    "job": ["api", "db"],
    "instance": ["a:1", "b:2", "c:3"],
    "code": ["200", "404", "500"],
    "mode": ["idle", "user", "sy\"s\\"],
    "le": ["0.1", "1", "10", "+Inf"],
    "version": ["1.0", "1.1"],
    "region": ["eu", "us"],
}


class Data:
    """{labels: [(milliseconds, value)]}; labels are sorted pairs, values floats or STALE."""

    def __init__(self, rng, version, histograms=False):
        self.rng, self.version = rng, version
        # A sample on the left edge of a window is in it before Prometheus 3, and not since: there must be none.
        self.quiet = not version.knows("left-open ranges")
        self.series = {}
        self.floats()
        if histograms:
            from promql.histograms import add

            add(self)

    def put(self, name, labels, values, times=None):
        """Adds a series with gaps and stale markers; `values` is called once per sample."""
        key = tuple(sorted({"__name__": name, **labels}.items()))
        points = []
        for time in times or self.times():
            points.append((time, values()))
        self.series[key] = self.with_gaps(points)

    def times(self):
        rng, kind = self.rng, self.rng.randrange(4)
        time, out = BEGIN + 1000 * rng.randrange(30), []
        while time < END:
            jitter = rng.randrange(-400, 400) if kind == 1 else 0
            out.append(time - time % 1000 + rng.randrange(120, 200) if self.quiet else time + jitter)
            time += 1000 * (rng.choice([1, 5, 15, 40, 60, 200]) if kind == 2 else 15)
        return out

    def with_gaps(self, points):
        rng, out, at = self.rng, [], 0
        gaps = rng.choice([0, 0, 1, 2, 5])
        holes = sorted((rng.randrange(len(points)), rng.choice([1, 2, 8, 25, 40]), rng.random() < 0.5) for _ in range(gaps))
        for start, length, stale in holes:
            if start < at:
                continue
            out += points[at:start]
            if stale:
                out.append((points[start][0], STALE))
            at = start + length
        return out + points[at:]

    def instances(self, share=1.0):
        return [{"job": j, "instance": i} for j in LABELS["job"] for i in LABELS["instance"] if self.rng.random() < share]

    def floats(self):
        rng = self.rng
        for labels in self.instances():
            self.put("gauge", labels, walk(rng, 100, 10))
        for labels in self.instances(0.7):
            for mode in rng.sample(LABELS["mode"], 2):
                self.put("gauge_other", {**labels, "mode": mode}, walk(rng, 0, 1e3))
        for labels in self.instances(0.8):
            for code in rng.sample(LABELS["code"], 2):
                self.put("events_total", {**labels, "code": code}, counter(rng, 0.02))
            self.put("restarts_total", labels, counter(rng, 0.2))
            self.put("level", labels, lambda: float(rng.randrange(-2, 4)))
            self.put("sparse", labels, lambda: rng.random(), [t for t in self.times() if rng.random() < 0.05] or [BEGIN + 7000])
            self.put("target_info", {**labels, "version": rng.choice(LABELS["version"]), "region": rng.choice(LABELS["region"])}, lambda: 1.0)
        for labels in self.instances(0.5):
            self.put("odd", labels, lambda: rng.choice(ODD) if rng.random() < 0.5 else rng.gauss(0, 1))
        for job in LABELS["job"]:
            self.put("constant", {"job": job}, lambda value=rng.choice([0.0, 1.0, 0.1, 1e9]): value)
            self.put("build_info", {"job": job, "version": rng.choice(LABELS["version"])}, lambda: 1.0)
        for labels in self.instances(0.5):
            self.classic_histogram(labels)
        if self.version.knows("UTF-8 names"):
            for host in ("h\u00e9", "h-2"):
                self.put("http.requests", {"job": rng.choice(LABELS["job"]), "host.name": host}, counter(rng, 0.05))

    def classic_histogram(self, labels):
        """Buckets that mostly add up; one set may lack +Inf, have a bound twice in two spellings, or one that is no number."""
        rng = self.rng
        bounds = ["0.1", "0.5", "1", "10", "+Inf"]
        oddity = rng.randrange(8)
        if oddity == 0:
            bounds.remove("+Inf")
        elif oddity == 1:
            bounds.append("1.0")
        elif oddity == 2:
            bounds.append("much")
        elif oddity == 3:
            bounds[0] = "-1"
        times = self.times()
        total = {bound: 0.0 for bound in bounds}
        rows = {bound: [] for bound in bounds}
        count, total_sum, sums, counts = 0.0, 0.0, [], []
        for time in times:
            if rng.random() < 0.02:
                total, count, total_sum = {bound: 0.0 for bound in bounds}, 0.0, 0.0
            for _ in range(rng.randrange(5)):
                value = rng.lognormvariate(-0.5, 1.5)
                count, total_sum = count + 1, total_sum + value
                for bound in bounds:
                    if bound == "much" or value <= float(bound):
                        total[bound] += 1
            for bound in bounds:
                shaken = rng.choice([-1, 1]) if rng.random() < 0.01 else 0
                rows[bound].append((time, max(0.0, total[bound] + shaken)))
            sums.append((time, total_sum))
            counts.append((time, count))
        for name, extra, points in [*(("latency_bucket", {"le": b}, rows[b]) for b in bounds), ("latency_sum", {}, sums), ("latency_count", {}, counts)]:
            self.series[tuple(sorted({"__name__": name, **labels, **extra}.items()))] = points

    def requests(self):
        """Bodies in the order to send them: by labels, so that both servers number the series alike; some samples twice, of which
        Prometheus takes only the latest."""
        rows = [(dict(key), points) for key, points in sorted(self.series.items()) if points]
        again = [(labels, points[-1:]) for labels, points in rows if isinstance(points[-1][1], float) and self.rng.random() < 0.2]
        # Floats and histograms of one series lose their order in a request: one for each kind in turn.
        runs = [(labels, list(in_turn(points))) for labels, points in rows]
        longest = max(len(parts) for _, parts in runs)
        return [[(labels, parts[turn]) for labels, parts in runs if turn < len(parts)] for turn in range(longest)] + [again]


def in_turn(points):
    """The points in runs of one kind; a float that ends a series of histograms is a kind of its own."""
    return (list(run) for _, run in groupby(points, lambda point: type(point[1])))


def walk(rng, start, size):
    state = [rng.gauss(start, size)]

    def step():
        state[0] += rng.gauss(0, size / 5)
        return state[0]

    return step


def counter(rng, reset):
    state, whole = [rng.randrange(1000) * 1.0], rng.random() < 0.6

    def step():
        if rng.random() < reset:
            state[0] = rng.choice([0.0, state[0] / 2])
        elif rng.random() < 0.8:
            state[0] += rng.randrange(50) if whole else rng.expovariate(0.1)
        return state[0]

    return step
