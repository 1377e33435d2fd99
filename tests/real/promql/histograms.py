"""Random native histograms: exponential and custom buckets, counters and gauges, whole and fractional counts, and a series that changes kind."""
import math
import struct

from promql.data import FLOATS, LABELS
from remote_write import nested, varint

NAMES = {**FLOATS, "native": 8, "native_other": 5, "native_gauge": 4, "native_custom": 5, "native_mixed": 3}
CUSTOM = -53  # the schema of custom buckets
UNKNOWN, GAUGE = 0, 3  # hints
STALE_BITS = struct.pack("<Q", 0x7FF0000000000002)


class Histogram:
    """A native histogram: `positive` and `negative` are counts by index of the bucket."""

    def __init__(self, schema, positive=None, negative=None, zero=0, threshold=0.0, sum=0.0, bounds=(), hint=UNKNOWN, fractions=False, stale=False):
        self.schema, self.positive, self.negative = schema, positive or {}, negative or {}
        self.zero, self.threshold, self.sum, self.bounds = zero, threshold, sum, bounds
        self.hint, self.fractions, self.stale = hint, fractions, stale

    def message(self, time):
        """As `prometheus.Histogram` of remote write."""
        count = self.zero + sum(self.positive.values()) + sum(self.negative.values())
        number = lambda n: struct.pack("<d", n)
        if self.fractions:
            out = b"\x11" + number(count)
        else:
            out = b"\x08" + varint(count)
        out += b"\x19" + (STALE_BITS if self.stale else number(self.sum))
        out += b"\x20" + varint(zigzag(self.schema)) + b"\x29" + number(self.threshold)
        out += b"\x39" + number(self.zero) if self.fractions else b"\x30" + varint(self.zero)
        for buckets, spans, deltas, counts in ((self.negative, 8, 9, 10), (self.positive, 11, 12, 13)):
            indexes = sorted(buckets)
            for offset, length in self.spans(indexes):
                out += nested(spans, b"\x08" + varint(zigzag(offset)) + b"\x10" + varint(length))
            if self.fractions:
                out += nested(counts, b"".join(number(buckets[i]) for i in indexes))
            else:
                values = [0] + [buckets[i] for i in indexes]
                out += nested(deltas, b"".join(varint(zigzag(b - a)) for a, b in zip(values, values[1:])))
        out += b"\x70" + varint(self.hint) + b"\x78" + varint(time)
        if self.bounds:
            out += nested(16, b"".join(map(number, self.bounds)))
        return out

    @staticmethod
    def spans(indexes):
        """[(distance from the end of the span before, length)]"""
        out, at = [], 0
        for index in indexes:
            if out and index == at:
                out[-1][1] += 1
            else:
                out.append([index - at, 1])
            at = index + 1
        return out


def zigzag(n):
    return n << 1 if n >= 0 else (-n << 1) - 1


def add(data):
    """Puts native histograms among the series."""
    rng = data.rng
    for labels in data.instances(0.9):
        put(data, "native", labels, exponential(rng, rng.choice([0, 1, 3])))
    for labels in data.instances(0.5):
        put(data, "native_other", {**labels, "mode": rng.choice(LABELS["mode"])}, exponential(rng, rng.choice([-1, 0, 2]), fractions=True))
    for labels in data.instances(0.4):
        put(data, "native_gauge", labels, exponential(rng, 0, hint=GAUGE, fractions=rng.random() < 0.5))
    bounds = [(0.1, 1.0, 10.0), (0.1, 1.0, 10.0), (0.5, 1.0, 5.0, 10.0)]
    for labels in data.instances(0.6):
        put(data, "native_custom", labels, custom(rng, rng.choice(bounds)))
    for labels in data.instances(0.4):
        put(data, "native_mixed", labels, mixed(rng, exponential(rng, 1)))


def put(data, name, labels, values):
    data.put(name, labels, values)
    key = tuple(sorted({"__name__": name, **labels}.items()))
    # A float that ends a series of histograms is something else than a histogram that does, which must have counts of their kind.
    histograms = [value for _, value in data.series[key] if isinstance(value, Histogram)]
    stale = Histogram(0, stale=True, fractions=bool(histograms) and histograms[0].fractions)
    data.series[key] = [(t, stale if isinstance(v, bytes) and name != "native_mixed" else v) for t, v in data.series[key]]


def exponential(rng, schema, hint=UNKNOWN, fractions=False):
    state = {"positive": {}, "negative": {}, "zero": 0, "sum": 0.0, "schema": schema, "threshold": 0.001}

    def step():
        if rng.random() < 0.04 or hint == GAUGE:
            state.update(positive={}, negative={}, zero=0, sum=0.0)
        if rng.random() < 0.03:
            # What is scraped may change its resolution; the counts so far are merged in pairs or forgotten.
            state.update(positive={}, negative={}, zero=0, sum=0.0, schema=schema + rng.choice([-1, 0, 1]), threshold=rng.choice([0.001, 0.01]))
        for _ in range(rng.randrange(6)):
            weight = rng.choice([0.5, 1.0, 2.25]) if fractions else 1
            value = rng.choice([rng.lognormvariate(0, 1.5), rng.lognormvariate(0, 1.5), -rng.lognormvariate(0, 1), 0.0])
            state["sum"] += value * weight
            if abs(value) <= state["threshold"]:
                state["zero"] += weight
                continue
            side = state["positive" if value > 0 else "negative"]
            index = math.ceil(math.log2(abs(value)) * 2.0 ** state["schema"])
            side[index] = side.get(index, 0) + weight
        return Histogram(
            state["schema"], dict(state["positive"]), dict(state["negative"]), state["zero"], state["threshold"], state["sum"], hint=hint, fractions=fractions
        )

    return step


def custom(rng, bounds):
    state = {"counts": {}, "sum": 0.0}

    def step():
        if rng.random() < 0.04:
            state.update(counts={}, sum=0.0)
        for _ in range(rng.randrange(5)):
            value = rng.lognormvariate(0, 1.5)
            index = next((i for i, bound in enumerate(bounds) if value <= bound), len(bounds))
            state["counts"][index] = state["counts"].get(index, 0) + 1
            state["sum"] += value
        return Histogram(CUSTOM, dict(state["counts"]), sum=state["sum"], bounds=bounds)

    return step


def mixed(rng, histogram):
    state = [False]

    def step():
        if rng.random() < 0.05:
            state[0] = not state[0]
        return float(rng.randrange(100)) if state[0] else histogram()

    return step
