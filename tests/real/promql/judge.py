"""Finds the smallest part of an expression that is answered differently, and whether that is a difference at all."""
import json
import math
import re
import sys
from collections import Counter, defaultdict

from promql.compare import CLOSE, DIFFERENT, KNOWN, OPEN, RANKS, ROUNDED, SAME, Difference, compare, numbers, values
from promql.grammar import DATES, Expr
from promql.servers import Query

ZERO_ENDS = 0.01  # the widest zero bucket of the data
ABOUT_ONE_LABEL_TWICE = re.compile(r"[{,](\w+)(?:=|!)[^}]*,\1(?:=|!)")
EPSILON = sys.float_info.epsilon

# Aggregations that choose series. Which of several with equal values, or which k at all, Prometheus leaves open.
RANKING = ("topk", "bottomk", "limitk")


class Verdict:
    """How an expression did: the worst difference that counts, and the part that it comes from."""

    def __init__(self, rank, expr, query, text="", carried=False):
        self.rank, self.expr, self.query, self.text, self.carried = rank, expr, query, text, carried


class Judge:
    """Asks both servers about expressions and their parts."""

    def __init__(self, servers, rules):
        self.servers, self.rules = servers, rules

    def look(self, expr, query):
        """(answer of Prometheus, answer of Tidelake, difference)"""
        want, got = self.servers.ask(query)
        ordered = expr.op.startswith("sort") and not query.is_range()
        if ordered and "label" not in expr.op and not want.error and not got.error:
            # Of equal values either may be first.
            values = [[points[0][1] for points in answer.series.values()] for answer in (want, got)]
            if values[0] != values[1] and sorted(values[0], key=str) == sorted(values[1], key=str):
                return want, got, Difference(DIFFERENT, f"order of values {values[1]} instead of {values[0]}")
        return want, got, compare(want, got, self.rules, ordered and "label" in expr.op)

    def verdict(self, expr, query, exact=False):
        """Looks into the parts if the whole differs; with `exact` also if it is only rounded otherwise."""
        want, got, difference = self.look(expr, query)
        fine = (SAME,) if exact else (SAME, ROUNDED)
        if difference.rank in fine:
            return want, Verdict(difference.rank, expr, query, difference.text)
        return want, self.blame(expr, query, want, got, difference, exact)

    def blame(self, expr, query, want, got, difference, exact):
        query, want, got, difference = self.narrowed(expr, query, want, got, difference)
        carried = None
        for child in expr.children():
            if child.type == "string":
                continue
            inner = self.query_of_child(expr, child, query, difference)
            if inner is None:
                continue
            if query.is_range() and child.type == "matrix":
                inner = query.at(str(child), query.start)
            child_want, child_got, child_difference = self.look(child, inner)
            # What both refuse as a query of its own can still be a part; what it is made of may show why it differs.
            if child_difference.rank == SAME and not child_want.error:
                continue
            verdict = self.blame(child, inner, child_want, child_got, child_difference, exact)
            if verdict.rank == DIFFERENT or (exact and difference.rank == ROUNDED and verdict.rank == ROUNDED):
                return verdict
            if verdict.rank == SAME:
                continue
            if carried is None or RANKS.index(verdict.rank) > RANKS.index(carried.rank):
                carried = verdict
        if difference.rank == DIFFERENT and self.open(expr, query, want, got):
            return Verdict(OPEN, expr, query, difference.text)
        if difference.rank == DIFFERENT and expr.op == "fold" and self.ill_conditioned(expr, query, want, got):
            return Verdict(ROUNDED, expr, query, difference.text)
        if difference.rank == DIFFERENT and (self.rules.known(expr, want, got) or self.mean_from_sum(expr, query, want, got)):
            return Verdict(KNOWN, expr, query, difference.text)
        if carried is not None:
            return Verdict(carried.rank, carried.expr, carried.query, difference.text, carried=True)
        if difference.rank == DIFFERENT and self.undecided(expr, query):
            return Verdict(OPEN, expr, query, difference.text)
        return Verdict(difference.rank, expr, query, difference.text)

    def narrowed(self, expr, query, want, got, difference):
        """The same at one time, if that is enough to see the difference."""
        if query.is_range() and difference.rank != SAME:
            times = [round(difference.time * 1000)] if difference.time is not None else query.times()[:: max(1, len(query.times()) // 8)]
            for time in times:
                single = query.at(str(expr), time)
                answers = self.look(expr, single)
                if answers[2].rank == difference.rank:
                    return single, *answers
        return query, want, got, difference

    def query_of_child(self, expr, child, query, difference):
        if expr.op != "subquery":
            return query.at(str(child), query.start) if not query.is_range() else query.of(str(child))
        return None if difference.time is None else query.at(str(child), round(difference.time * 1000))

    def undecided(self, expr, query):
        """Whether Prometheus does not answer alike twice."""
        answers = [self.servers.ask(query)[0] for _ in range(6)]
        return any(compare(answers[0], answer, self.rules).rank != SAME for answer in answers[1:])

    def left_open(self, expr, query, want, got):
        """Whether both chose as many series of the same values (`limitk`: of any) from those that there were to choose from."""
        if want.error or got.error:
            return False
        source = expr.children()[-1]
        given, _ = self.servers.ask(query.of(str(source)))
        if not set(got.series) <= set(given.series):
            return False
        values = "limitk" != expr.op
        count = lambda answer: Counter((time, value if values else None) for points in answer.series.values() for time, value in points if not isinstance(value, dict))
        return count(want) == count(got)

    def ill_conditioned(self, expr, query, want, got):
        """Whether results differ by no more than the order of additions makes, which is open: Prometheus takes series from hash maps."""
        given, _ = self.servers.ask(query.of(str(expr.children()[-1])))
        if want.error or got.error or want.series.keys() != got.series.keys():
            return False
        added = defaultdict(list)
        for points in given.series.values():
            for time, value in points:
                added[time].append(float(value) if isinstance(value, str) else math.inf)
        for labels, points in want.series.items():
            for (time, a), (other_time, b) in zip(points, got.series[labels]):
                values = added[time]
                if time != other_time or not isinstance(a, str) or not isinstance(b, str):
                    return False
                if a != b and not (all(map(math.isfinite, values)) and as_near_as_can_be(str(expr), float(a), float(b), values)):
                    return False
        return True

    def mean_from_sum(self, expr, query, want, got):
        """Whether histograms are the sum by the count, which `avg` of an older Prometheus is not: it moved a mean from histogram to
        histogram, and what one has in the zero bucket of another then was in a bucket, or in none, by its share."""
        text = str(expr)
        if self.rules.version.knows("mean of histograms from their sum") or expr.op != "fold" or not text.startswith("avg"):
            return False
        if want.error or got.error or want.series.keys() != got.series.keys():
            return False
        by_sum, _ = self.servers.ask(query.of(f"(sum{text[3:]}) / (count{text[3:]})"))
        for labels, points in want.series.items():
            # A quotient has no name.
            nameless = tuple(pair for pair in labels if pair[0] != "__name__")
            others, means = dict(got.series[labels]), dict(by_sum.series.get(nameless, []))
            if others.keys() != dict(points).keys():
                return False
            for time, value in points:
                other = others[time]
                if values(value, other) == DIFFERENT and not (isinstance(other, dict) and values(means.get(time), other) != DIFFERENT):
                    return False
        return True

    def open(self, expr, query, want, got):
        """Whether Prometheus leaves open what the answer is, or has it by chance."""
        if query.is_range() and expr.op in (*RANKING, "limit_ratio", "quantile") and " @ " in str(expr.children()[0]):
            # In a parameter, Prometheus moves the time of `@` with the steps (also the newest).
            return True
        if expr.op in RANKING:
            return self.left_open(expr, query, want, got)
        if expr.op in ("absent", "absent_over_time"):
            # Labels are taken from matchers, which reading the series has put in another order.
            return ABOUT_ONE_LABEL_TWICE.search(str(expr)) is not None
        if expr.op == "histogram_quantile" and "native" in str(expr):
            # Where the zero bucket ends depends on whether there are buckets of nothing beside it, which Prometheus' chunks add.
            apart = [(a, b) for s in want.series.keys() & got.series.keys() for (_, a), (_, b) in zip(want.series[s], got.series[s]) if a != b]
            apart = [pair for pair in apart if numbers(*pair) == DIFFERENT]
            # Fewer than no observations are never enough: the answer is the end of the last bucket, which may be such a one.
            given, _ = self.servers.ask(query.of(str(expr.children()[-1])))
            if any(isinstance(value, dict) and value.get("count", "").startswith("-") for points in given.series.values() for _, value in points):
                return True
            return bool(apart) and all(abs(float(value)) <= ZERO_ENDS for pair in apart for value in pair)
        if expr.op == "subquery" and want.error and not got.error and str(expr).count("[") > 1:
            # A subquery within one is evaluated up to the end of the outer one, beyond the last step that there is; it may fail there.
            return "matching" in want.message or "duplicate series" in want.message
        if query.is_range() and any(child.op == "subquery" for child in expr.children()):
            # The same beyond the last step: asked for one time after the other, nothing differs.
            return all(self.look(expr, query.at(str(expr), time))[2].rank == SAME for time in query.times())
        if expr.op == "count_values" and "native" in str(expr):
            # Nothing times infinity is NaN, also in buckets of nothing, and these are part of the text.
            if any("NaN" in text for labels in want.series for _, text in labels):
                return True
        # What is aggregated with one value for all steps, Prometheus aggregates once, with the first parameter (also the newest).
        if query.is_range() and (expr.op == "quantile" or "native" in str(expr) and any(child.type == "matrix" for child in expr.children())):
            return self.otherwise_at_once(expr, query, want, got)
        if expr.op == "binary" and "native" in str(expr):
            return self.unequal_in_layout(expr, query, want, got)
        if expr.op == "changes":
            return self.changed_in_layout(expr, query, want, got)
        if expr.op == "matrix":
            return self.otherwise_alone(expr, query, want, got)
        if expr.op.startswith("sort_by_label"):
            # An order that contradicts itself where one text is empty.
            labels = re.findall(r"[\"'`](\w+)[\"'`]", "".join(part for part in expr.parts if isinstance(part, str)))
            return set(want.series) == set(got.series) and any(0 < sum(label in dict(s) for s in want.series) < len(want.series) for label in labels)
        if expr.op == "timestamp":
            # With `@`, Prometheus forgets the offset (also the newest).
            return " @ " in str(expr) and " offset " in str(expr)
        if expr.op in DATES or expr.op in ("cosh", "sinh", "ln") or expr.op.startswith("log"):
            return self.beyond(expr, query)
        return False

    def unequal_in_layout(self, expr, query, want, got):
        """Whether Tidelake finds histograms equal that are not for Prometheus, because its storage adds buckets of nothing to a chunk."""
        operator = re.search(r" ([=!]=)( bool)?", "".join(part for part in expr.parts if isinstance(part, str)))
        if operator is None or want.error or got.error:
            return False
        sides = [self.servers.ask(query.of(str(child)))[1] for child in expr.children()]
        if not all(any(isinstance(value, dict) for points in side.series.values() for _, value in points) for side in sides):
            return False
        equal, unequal = (got, want) if operator.group(1) == "==" else (want, got)
        for labels in equal.series.keys() | unequal.series.keys():
            # Equal ones are what the one has too much or, with `bool`, as 1 instead of 0.
            more, fewer = dict(equal.series.get(labels, [])), dict(unequal.series.get(labels, []))
            if operator.group(2):
                if more.keys() != fewer.keys() or any(more[time] != fewer[time] and (more[time], fewer[time]) != ("1", "0") for time in more):
                    return False
            elif any(more.get(time) != value for time, value in fewer.items()):
                return False
        return True

    def changed_in_layout(self, expr, query, want, got):
        """Whether Prometheus counts more changes than one sees in the histograms that it shows. It adds buckets of nothing to a chunk of
        its storage, and where a chunk begins there is a change for `changes` if the two samples are equal without them."""
        if want.error or got.error or want.series.keys() != got.series.keys():
            return False
        shown = {}
        given, _ = self.servers.ask(query.of(str(expr.children()[0])))
        for labels, points in given.series.items():
            samples = [value for _, value in sorted(points, key=lambda point: point[0])]
            labels = tuple(pair for pair in labels if pair[0] != "__name__")
            # Two names would be two series of one label set, which is refused.
            shown[labels] = sum(a != b for a, b in zip(samples, samples[1:])) if any(isinstance(value, dict) for value in samples) else math.inf
        apart = [(labels, a, b) for labels in want.series for (_, a), (_, b) in zip(want.series[labels], got.series[labels]) if a != b]
        return bool(apart) and all(shown.get(labels, math.inf) <= float(b) < float(a) for labels, a, b in apart)

    def otherwise_at_once(self, expr, query, want, got):
        """The same of what is asked for at several times: whether Prometheus agrees where it is asked for one of them."""
        if want.error or got.error or want.series.keys() != got.series.keys():
            return False
        for labels, points in want.series.items():
            others = dict(got.series[labels])
            if others.keys() != dict(points).keys():
                return False
            for time, value in points:
                if values(value, others[time]) == DIFFERENT:
                    alone, _ = self.servers.ask(query.at(str(expr), round(time * 1000)))
                    if values(dict(alone.series.get(labels, [])).get(time), others[time]) == DIFFERENT:
                        return False
        return True

    def otherwise_alone(self, expr, query, want, got):
        """Whether Prometheus, asked for those samples alone that differ, answers as Tidelake. After some queries 3.5 gives a histogram of
        a range the buckets of the next one, or all of it, until memory is used otherwise; its storage has the right ones."""
        if want.error or got.error or want.series.keys() != got.series.keys():
            return False
        apart = [(labels, a, b) for labels in want.series for a, b in zip(want.series[labels], got.series[labels]) if a != b]
        if not apart or any(len(want.series[labels]) != len(got.series[labels]) for labels in want.series):
            return False
        for labels, (time, a), (other_time, b) in apart:
            if time != other_time or not isinstance(a, dict):
                return False
            selector = "{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in labels) + "}"
            alone, _ = self.servers.ask(Query(selector, round(time * 1000)))
            if values(dict(alone.series.get(labels, [])).get(time), b) != SAME:
                return False
        return True

    def beyond(self, expr, query):
        """Whether some value is no date, or has no full precision: which integer Go makes of a float that is none, and the logarithm of
        a subnormal one, depend on the processor. Go's `cosh` and `sinh` overflow where their results still are floats; its `log2` adds the
        logarithm of a fraction to an exponent, so that of a number near one little is left."""
        given, _ = self.servers.ask(query.of(str(expr.children()[0])))
        values = [float(value) for points in given.series.values() for _, value in points if isinstance(value, str)]
        if expr.op in DATES:
            return any(not abs(value) < 1e15 for value in values)
        if expr.op in ("cosh", "sinh"):
            return any(709 < abs(value) < 711 for value in values)
        near_one = expr.op in ("log2", "log10") and any(0 < abs(value - 1) < 1e-6 for value in values)
        return near_one or any(0 < value < sys.float_info.min for value in values)

    def shrink(self, verdict, attempts=60):
        """A smaller expression that still differs, by putting parts of parts in their place."""
        expr, query = verdict.expr, verdict.query
        tried = set()
        progress = True
        while progress and attempts > 0:
            progress = False
            for node in list(expr.walk())[1:]:
                for other in [*(d for d in list(node.walk())[1:] if d.type == node.type), *simplest(node)]:
                    smaller = expr.swapped(node, other)
                    text = str(smaller)
                    if len(text) >= len(str(expr)) or text in tried or attempts <= 0:
                        continue
                    tried.add(text)
                    attempts -= 1
                    if self.look(smaller, query.of(text))[2].rank == DIFFERENT:
                        found = self.verdict(smaller, query.of(text))[1]
                        if found.rank == DIFFERENT:
                            expr, query, verdict, progress = found.expr, found.query, found, True
                            break
                if progress:
                    break
        return verdict


def as_near_as_can_be(aggregation, a, b, values):
    """Whether two results of one aggregation of these values are within the error of another order."""
    largest, spread = max(map(abs, values)), max(values) - min(values)
    if not aggregation.startswith(("stddev", "stdvar")):
        return abs(a - b) <= CLOSE * largest
    if aggregation.startswith("stddev"):
        a, b = a * a, b * b
    unit = len(values) * EPSILON * largest
    return abs(a - b) <= 8 * unit * max(unit, spread)


def simplest(node):
    if node.type == "scalar":
        return [Expr("scalar", "number", "1")]
    if node.type == "vector" and node.op != "selector":
        return [Expr("vector", "selector", name) for name in ("gauge", "level")] + [Expr("vector", "vector", "vector(1)")]
    return []
