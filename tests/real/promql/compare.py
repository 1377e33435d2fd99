"""Whether two answers say the same.

Numbers are compared as they are written: both servers write the shortest text that reads back as the same float, so equal texts
are equal bits (but for the payload of NaN). Texts that differ are `close` if the floats are within CLOSE of each other: Go and Rust
bring mathematical functions (`exp`, `sin`, `^`, ...) of their own, whose last bits differ, and a server may add in another order.
"""
import math

CLOSE = 1e-12
SAME, ROUNDED, OPEN, KNOWN, DIFFERENT = "same", "rounded", "open", "known", "different"
RANKS = [SAME, ROUNDED, OPEN, KNOWN, DIFFERENT]


class Answer:
    """An answer of the query API: `type`, `series` {labels: [(time, number or histogram)]} in the order of the answer, annotations."""

    def __init__(self, status, body):
        self.status = status
        self.error = body.get("errorType") if body["status"] == "error" else None
        self.message = body.get("error", "")
        self.warnings, self.infos = body.get("warnings", []), body.get("infos", [])
        self.type, self.series, self.doubled = None, {}, False
        if self.error is None:
            self.read(body["data"])

    def read(self, data):
        self.type, result = data["resultType"], data["result"]
        if self.type in ("scalar", "string"):
            result = [{"metric": {}, "value": result}]
        for one in result:
            labels = tuple(sorted(one["metric"].items()))
            points = [(t, v) for t, v in one.get("values") or ([one["value"]] if "value" in one else [])]
            points += [(t, v) for t, v in one.get("histograms") or ([one["histogram"]] if "histogram" in one else [])]
            self.doubled |= labels in self.series
            self.series[labels] = points

    def filled(self):
        return bool(self.series)


class Difference:
    """How far two answers differ, in words, and the first time at which they do."""

    def __init__(self, rank, text="", time=None):
        self.rank, self.text, self.time = rank, text, time

    def worse(self, other):
        return self if RANKS.index(self.rank) >= RANKS.index(other.rank) else other


def different(text, time=None):
    return Difference(DIFFERENT, text, time)


def compare(want, got, rules, ordered=False):
    """The worst difference of two answers. `rules` says what to expect of annotations; `ordered`: the order of the series counts."""
    if want.error or got.error:
        if want.error != got.error or want.status != got.status:
            return different(f"{outcome(want)} against {outcome(got)}")
        return Difference(SAME)
    if want.type != got.type:
        return different(f"{want.type} against {got.type}")
    if got.doubled:
        return different("a label set occurs twice")
    worst = labels_and_values(want, got)
    if worst.rank != DIFFERENT and ordered and list(want.series) != list(got.series):
        return different(f"order {list(got.series)} instead of {list(want.series)}")
    if worst.rank != DIFFERENT:
        for kind in ("warnings", "infos"):
            apart = rules.apart(getattr(want, kind), getattr(got, kind))
            if apart:
                return different(f"{kind}: {apart[0]} against {apart[1]}")
    return worst


def outcome(answer):
    return f"{answer.status} {answer.error}: {answer.message}" if answer.error else f"{answer.type} of {len(answer.series)}"


def labels_and_values(want, got):
    for labels in want.series.keys() - got.series.keys():
        return different(f"missing {dict(labels)}: {want.series[labels][:3]}", first_time(want.series[labels]))
    for labels in got.series.keys() - want.series.keys():
        return different(f"too many: {dict(labels)}: {got.series[labels][:3]}", first_time(got.series[labels]))
    worst = Difference(SAME)
    for labels, points in want.series.items():
        others = got.series[labels]
        if points == others:
            continue
        times, other_times = dict(points), dict(others)
        apart = sorted(times.keys() ^ other_times.keys())
        if apart or len(points) != len(others):
            return different(f"{dict(labels)}: {len(points)} points against {len(others)}, apart at {apart[:5]}", apart[0] if apart else None)
        for time, value in points:
            how = values(value, other_times[time])
            if how != SAME:
                worst = worst.worse(Difference(how, f"{dict(labels)} at {time}: {value} against {other_times[time]}", time))
            if how == DIFFERENT:
                return worst
    return worst


def first_time(points):
    return points[0][0] if points else None


def values(a, b):
    if a == b:
        return SAME
    if isinstance(a, str) and isinstance(b, str):
        return numbers(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return histograms(a, b)
    return DIFFERENT


def numbers(a, b):
    try:
        x, y = float(a), float(b)
    except ValueError:
        return DIFFERENT
    # Equal floats in different words would be a fault of writing.
    if x == y or math.isnan(x) or math.isnan(y) or math.isinf(x) or math.isinf(y):
        return SAME if a == b else DIFFERENT
    return ROUNDED if abs(x - y) <= CLOSE * max(abs(x), abs(y)) else DIFFERENT


def histograms(a, b):
    """Count, sum, and each bucket: how its bounds are closed, its bounds, its count."""
    worst = SAME
    for name in ("count", "sum"):
        worst = max(worst, values(a.get(name, ""), b.get(name, "")), key=RANKS.index)
    buckets, others = a.get("buckets") or [], b.get("buckets") or []
    if a.get("count") in ("NaN", "+Inf", "-Inf"):
        # Of nothing, NaN is made too (also by infinity), and which buckets of nothing there are is a matter of how Prometheus' chunks are laid out.
        buckets, others = ([bucket for bucket in some if bucket[3] != "NaN"] for some in (buckets, others))
        # Added to a NaN of nothing, what is infinite in Tidelake is NaN as well.
        bounds = {tuple(bucket[:3]) for bucket in buckets}
        others = [other for other in others if tuple(other[:3]) in bounds or "Inf" not in other[3]]
    if len(buckets) != len(others):
        return DIFFERENT
    for bucket, other in zip(buckets, others):
        if bucket[0] != other[0]:
            return DIFFERENT
        for x, y in zip(bucket[1:], other[1:]):
            worst = max(worst, values(x, y), key=RANKS.index)
    return worst
