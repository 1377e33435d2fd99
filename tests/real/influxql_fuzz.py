#!/usr/bin/env python3
"""Random InfluxQL over random data, asked of a real InfluxDB 1.x and of Tidelake, which must answer alike.

    tests/real/influxql_fuzz.py --seed 7 --statements 2000       # one set of data, 2,000 statements
    tests/real/influxql_fuzz.py --seed 7 --seeds 10              # seeds 7 to 16, each with data of its own
    tests/real/influxql_fuzz.py --seed 7 --only 123              # one statement again, with both answers
    tests/real/influxql_fuzz.py --seed 7 --query 'SELECT ...'    # a statement of one's own

A seed makes the data, and with the number of a statement the statement. Rows of one series with equal times may come in any
order; floats may differ in their last digits, as sums are made in another order. What InfluxDB 1.x itself does in more than one
way is not asked (see `Grammar`). Closes with the figures.
"""
import argparse
import json
import random
import sys
import urllib.parse
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import Process, Tidelake, eventually, folder, free_ports, program, request  # noqa: E402

START = 1614556800  # 2021-03-01T00:00:00Z
SECONDS = 1800
DATABASE = "fuzz"


class Data:
    """Lines of a few measurements: several series, gaps, shared times, fields that come and go."""

    def __init__(self, seed):
        rng = random.Random(f"data {seed}")
        self.lines = []
        for host in ("a", "b", "c", "d")[: rng.randint(2, 4)]:
            region = rng.choice(("eu", "us", ""))
            step = rng.choice((5, 7, 10, 30))
            at = rng.randrange(0, 60)
            while at < SECONDS:
                if rng.random() < 0.85:
                    fields = [f"f={rng.choice((rng.uniform(-50, 50), rng.randint(-5, 5), 0.5))!r}"]
                    if rng.random() < 0.7:
                        fields.append(f"i={rng.randint(-9, 9)}i")
                    if rng.random() < 0.3:
                        fields.append(f's="{rng.choice(("x", "y", "hot", "cold start", ""))}"')
                    if rng.random() < 0.4:
                        fields.append(f"b={rng.choice(('true', 'false'))}")
                    if rng.random() < 0.2:
                        fields = fields[1:] or fields
                    tags = f",host={host}" + (f",region={region}" if region else "")
                    # Nanoseconds of their own: which of several points of one time counts is not always said.
                    nanos = rng.randrange(1000) if rng.random() < 0.1 else 0
                    self.lines.append(f"m{tags} {','.join(fields)} {(START + at) * 10**9 + nanos}")
                at += step if rng.random() < 0.9 else step * rng.randint(2, 20)
        for number in range(rng.randint(5, 40)):
            self.lines.append(f"n,kind={rng.choice('pq')} f={rng.uniform(0, 9)!r},c={number}i {(START + number * rng.choice((20, 45))) * 10**9}")


class Grammar:
    """Statements that InfluxDB answers in one way only.

    Left out: fills of a subquery that is not grouped as the query around it (InfluxDB fills anew whenever the series changes),
    percentile() backwards and of so few percent that a window has none (InfluxDB then ends the answer), mode() (of several values as frequent it is one that an unstable sort decides), abs() of integers (1.6 refuses it), sample(), holt_winters(), windows with an offset in a zone, and points of one
    time where the order of series decides.
    """

    NUMBERS = ("f", "i")
    AGGREGATES = ("count", "sum", "mean", "median", "spread", "stddev")
    SELECTORS = ("min", "max", "first", "last")
    TRANSFORMS = ("derivative", "non_negative_derivative", "difference", "non_negative_difference", "cumulative_sum", "elapsed")

    def __init__(self, rng):
        self.rng = rng

    def pick(self, *options):
        return self.rng.choice(options)

    def statement(self):
        kind = self.rng.random()
        if kind < 0.2:
            return self.raw()
        if kind < 0.65:
            return self.aggregated()
        if kind < 0.78:
            return self.transformed()
        if kind < 0.93:
            return self.nested()
        return self.show()

    # --- parts

    def measurement(self):
        return self.pick("m", "m", "m", "m", "n", "/^[mn]$/", "m, n")

    def time(self, bounded=False):
        if not bounded and self.rng.random() < 0.4:
            return None
        low = START + self.rng.randint(-100, SECONDS)
        high = low + self.rng.choice((0, 10, 60, 300, 900, 1800))
        first = self.pick(f"time >= {low}s", f"time > {low}s", f"time >= {low * 1000}ms")
        last = self.pick(f"time < {high}s", f"time <= {high}s")
        return f"{first} AND {last}"

    def tag_term(self):
        return self.pick(
            "host = 'a'", "host != 'b'", "host =~ /a|c/", "host !~ /^[ab]$/", "region = 'eu'", "region = ''", "region != ''", "host = 'zz'",
            "(host = 'a' OR host = 'b')", "(host = 'a' OR region = 'us')", "host::tag = 'c'", "nothing = ''", "kind = 'p'",
        )

    def field_term(self):
        number = self.pick(f"{self.rng.uniform(-20, 20):.2f}", str(self.rng.randint(-5, 5)))
        return self.pick(
            f"f > {number}", f"f <= {number}", f"i = {self.rng.randint(-3, 3)}", f"i != {number}", f"{number} < f", "f > i", f"f + i < {number}",
            "s = 'x'", "s =~ /o/", "s != 'y'", "b = true", "b != false", f"(f > {number} OR host = 'a')", f"i % 2 = 0", "f = 'text'",
        )

    def where(self, bounded=False):
        terms = []
        time = self.time(bounded)
        if self.rng.random() < 0.4:
            terms.append(self.tag_term())
        if self.rng.random() < 0.25:
            terms.append(self.field_term())
        if time:
            terms.insert(self.rng.randint(0, len(terms)), time)
        return " WHERE " + " AND ".join(terms) if terms else ""

    def tags(self):
        return self.pick(None, None, "host", "host", "region", "host, region", "*", "/^h/", "nothing")

    def windows(self):
        every = self.pick("10s", "30s", "1m", "5m", "90s", "1h", "7s")
        offset = self.pick("", "", "", ", 5s", ", -3s")
        return f"time({every}{offset})"

    def group(self, windows):
        parts = [part for part in (self.windows() if windows else None, self.tags()) if part]
        self.rng.shuffle(parts)
        if not parts:
            return ""
        fill = ""
        if windows:
            fill = self.pick("", "", " fill(none)", " fill(null)", " fill(0)", " fill(3.5)", " fill(previous)", " fill(linear)")
        return " GROUP BY " + ", ".join(parts) + fill

    def end(self, limits=True):
        order = self.pick("", "", "", " ORDER BY time DESC", " ORDER BY time")
        limit = ""
        if limits and self.rng.random() < 0.3:
            limit = f" LIMIT {self.rng.randint(1, 6)}" + (f" OFFSET {self.rng.randint(0, 4)}" if self.rng.random() < 0.5 else "")
        return order + limit

    def number(self):
        return self.pick("f", "f", "i")

    def arithmetic(self, operand):
        return self.pick(f"{operand} + 1", f"{operand} * 2.5", f"10 / {operand}", f"{operand} - {operand}", f"-{operand}", f"floor({operand})",
                         f"round({operand})", f"({operand} + 2) * 3", f"pow({operand}, 2)")

    # --- statements

    def raw(self):
        columns = self.pick("f", "f, i", "*", "f, host", "s, b", "i, region, f", "f AS x, i AS y", "f + i", "/^[fi]$/", "f::integer, i::float", "*::field", "f, f")
        # Which rows of one time are beyond a limit is not said: only one series has a limit.
        group = self.group(False)
        return f"SELECT {columns} FROM {self.measurement()}{self.where()}{group}{self.end(limits=group.endswith(' *'))}"

    def call(self, windows):
        # Of equal values percentile() picks one that an unstable sort decides: its time must be that of a window.
        name = self.pick(*self.AGGREGATES, *self.SELECTORS, "count_distinct", *(("percentile",) if windows else ()))
        field = self.number()
        if name in ("count", "first", "last") and self.rng.random() < 0.3:
            field = self.pick("s", "b", "f")
        if name == "percentile":
            return f"percentile({field}, {self.pick(50, 75.5, 99, 100)})"
        if name == "count_distinct":
            return f"count(distinct({field}))"
        return f"{name}({field})"

    def aggregated(self):
        windows = self.rng.random() < 0.6
        kind = self.rng.random()
        if kind < 0.5:
            columns = self.call(windows)
        elif kind < 0.7:
            columns = f"{self.call(windows)}, {self.call(windows)}"
        elif kind < 0.78:
            columns = f"{self.pick(*self.SELECTORS)}({self.number()}), {self.pick('host', 'i', 's, region', 'b')}"
        elif kind < 0.86:
            columns = self.arithmetic(f"{self.pick('mean', 'max', 'sum', 'count')}({self.number()})")
        elif kind < 0.9:
            columns = f"{self.pick('count', 'mean', 'max', 'last')}(*)"
        elif kind < 0.94:
            columns = f"distinct({self.pick('i', 's', 'b')})"
        else:
            columns = f"{self.pick('top', 'bottom')}({self.number()}, {self.pick('', 'host, ')}{self.rng.randint(1, 4)})"
            return f"SELECT {columns} FROM m{self.where(windows)}{self.group(windows)}"
        end = self.end()
        if "percentile" in columns:
            end = end.replace(" DESC", "")
        return f"SELECT {columns} FROM {self.measurement()}{self.where(windows)}{self.group(windows)}{end}"

    def transformed(self):
        name = self.pick(*self.TRANSFORMS, "moving_average")
        more = ""
        if name in ("derivative", "non_negative_derivative", "elapsed") and self.rng.random() < 0.6:
            more = f", {self.pick('1s', '10s', '1m')}"
        if name == "moving_average":
            more = f", {self.rng.randint(2, 4)}"
        if self.rng.random() < 0.6:
            inner = self.pick("mean", "max", "sum", "count", "last", "median")
            order = self.pick("", "", " ORDER BY time DESC")
            return f"SELECT {name}({inner}({self.number()}){more}) FROM m{self.where(True)}{self.group(True)}{order}"
        # Which of the points of one time comes first is not said: one series.
        return f"SELECT {name}({self.number()}{more}) FROM m{self.where()} GROUP BY host{self.end()}"

    def nested(self):
        inner_windows = self.rng.random() < 0.4
        inner = f"SELECT {self.pick('mean', 'max', 'sum', 'last', 'count')}({self.number()}) AS v FROM m{self.where(inner_windows)}"
        inner += self.pick("", " GROUP BY host", " GROUP BY host, region")
        if inner_windows:
            inner += (", " if "GROUP BY" in inner else " GROUP BY ") + self.windows() + self.pick("", " fill(none)")
        if self.rng.random() < 0.2:
            inner = f"SELECT f AS v, i FROM m{self.where()}"
        outer = self.pick("mean(v)", "max(v)", "sum(v)", "count(v)", "v", "*", "min(v), max(v)", "v * 2", "last(v)", "spread(v)")
        where = self.pick("", "", " WHERE v > 0", " WHERE host = 'a'")
        group = self.pick("", "", " GROUP BY host")
        return f"SELECT {outer} FROM ({inner}){where}{group}"

    def show(self):
        where = self.pick("", "", " WHERE host = 'a'", " WHERE region =~ /u/", " WHERE kind = 'p' OR host = 'b'")
        return self.pick(
            f"SHOW MEASUREMENTS{where}", f"SHOW SERIES{where}", f"SHOW SERIES FROM m{where}", f"SHOW TAG KEYS{where}", "SHOW TAG KEYS FROM n",
            f"SHOW TAG VALUES WITH KEY = host{where}", f"SHOW TAG VALUES FROM m WITH KEY IN (host, region){where}", "SHOW FIELD KEYS",
            f"SHOW TAG VALUES WITH KEY =~ /o/{where}", "SHOW FIELD KEYS FROM m", "SHOW RETENTION POLICIES", f"SHOW SERIES{where} LIMIT 2 OFFSET 1",
        )


def equal(a, b):
    """Whether two cells say the same."""
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None or isinstance(a, str) or isinstance(b, str):
        return a == b and type(a) is type(b)
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return abs(a - b) <= 1e-9 * max(1.0, abs(a), abs(b))


def rows_equal(a, b):
    return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))


def canonical(result):
    """Series by name and tags."""
    found = {}
    for series in result.get("series", ()):
        key = (series.get("name", ""), tuple(sorted(series.get("tags", {}).items())))
        known = found.setdefault(key, {"columns": series["columns"], "values": []})
        known["values"] += series.get("values", [])
    return found


def difference(want, got, has_times):
    """What is different between two results of a statement, or None."""
    if "error" in want or "error" in got:
        return None if ("error" in want) == ("error" in got) else f"errors: {want.get('error')!r} and {got.get('error')!r}"
    want, got = canonical(want), canonical(got)
    if want.keys() != got.keys():
        return f"series: {sorted(want)} and {sorted(got)}"
    for key, series in want.items():
        other = got[key]
        if series["columns"] != other["columns"]:
            return f"columns of {key}: {series['columns']} and {other['columns']}"
        if len(series["values"]) != len(other["values"]):
            return f"rows of {key}: {len(series['values'])} and {len(other['values'])}"
        at = 0
        while at < len(series["values"]):
            end = at + 1
            # Rows of one time in any order.
            while has_times and end < len(series["values"]) and series["values"][end][0] == series["values"][at][0]:
                end += 1
            left = list(other["values"][at:end])
            for row in series["values"][at:end]:
                match = next((n for n, candidate in enumerate(left) if rows_equal(row, candidate)), None)
                if match is None:
                    return f"rows {at} to {end - 1} of {key}: {series['values'][at:end]} and {other['values'][at:end]}"
                left.pop(match)
            at = end
    return None


class Influx(Process):
    """A real InfluxDB 1.x."""

    def __init__(self, binary, where):
        port, other = free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        data = Path(where) / "influxdb"
        env = {
            "INFLUXDB_META_DIR": f"{data}/meta", "INFLUXDB_DATA_DIR": f"{data}/data", "INFLUXDB_DATA_WAL_DIR": f"{data}/wal",
            "INFLUXDB_BIND_ADDRESS": f"127.0.0.1:{other}", "INFLUXDB_HTTP_BIND_ADDRESS": f"127.0.0.1:{port}", "INFLUXDB_HTTP_LOG_ENABLED": "false",
            "INFLUXDB_REPORTING_DISABLED": "true", "INFLUXDB_MONITOR_STORE_ENABLED": "false", "INFLUXDB_LOGGING_LEVEL": "error",
            "INFLUXDB_DATA_QUERY_LOG_ENABLED": "false", "INFLUXDB_CONTINUOUS_QUERIES_ENABLED": "false",
        }
        super().__init__([binary, "run"], Path(where) / "influxdb.log", env)
        eventually("InfluxDB's start", lambda: request(f"{self.url}/ping")[0] == 204)


def ask(url, statement):
    query = urllib.parse.urlencode({"db": DATABASE, "q": statement, "epoch": "ns"})
    status, text = request(f"{url}/query?{query}", method="GET")
    try:
        answer = json.loads(text)
    except ValueError:
        return {"error": f"no JSON: {status} {text[:200]}"}
    return answer["results"][0] if "results" in answer else {"error": answer.get("error", text)}


def load(url, data):
    request(f"{url}/query", urllib.parse.urlencode({"q": f'DROP DATABASE "{DATABASE}"'}), {"Content-Type": "application/x-www-form-urlencoded"})
    status, text = request(f"{url}/query", urllib.parse.urlencode({"q": f'CREATE DATABASE "{DATABASE}"'}), {"Content-Type": "application/x-www-form-urlencoded"})
    assert status == 200, text
    status, text = request(f"{url}/write?db={DATABASE}", "\n".join(data.lines))
    assert status == 204, text


def statement_of(seed, number):
    return Grammar(random.Random(f"{seed}:{number}")).statement()


def fuzz(options, influx, tidelake, seed, statements):
    """Asks both; returns the figures and what differed."""
    data = Data(seed)
    load(influx.url, data)
    load(tidelake.url, data)
    figures, failures = Counter(), []
    for number in statements:
        statement = options.query or statement_of(seed, number)
        want, got = ask(influx.url, statement), ask(tidelake.url, statement)
        figures["statements"] += 1
        figures["refused by both" if "error" in want and "error" in got else "with series" if want.get("series") else "empty"] += 1
        found = difference(want, got, not statement.startswith("SHOW"))
        if options.only is not None or options.query:
            print(statement, json.dumps(want), json.dumps(got), sep="\n  ")
        if found:
            failures.append((seed, number, statement, found))
            tidelake.check_alive()
    return figures, failures


def run(options, seeds=(1, 2), statements=400):
    influxd = program("influxd")
    figures, failures = Counter(), []
    options.only = options.query = None
    with folder() as where, Influx(influxd, where) as influx, Tidelake(options.bin, where) as tidelake:
        for seed in seeds:
            more, failed = fuzz(options, influx, tidelake, seed, range(statements))
            figures.update(more)
            failures += failed
    assert not failures, "\n".join(f"seed {seed} number {number}: {statement}\n  {found[:400]}" for seed, number, statement, found in failures[:5])
    return ", ".join(f"{count:,} {name}" for name, count in sorted(figures.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--influxd", default=None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--statements", type=int, default=1000)
    parser.add_argument("--only", type=int)
    parser.add_argument("--query")
    parser.add_argument("--most", type=int, default=20, help="differences that are shown")
    options = parser.parse_args()
    figures, failures = Counter(), []
    statements = [options.only or 0] if options.only is not None or options.query else range(options.statements)
    with folder() as where, Influx(options.influxd or program("influxd"), where) as influx, Tidelake(options.bin, where) as tidelake:
        for seed in range(options.seed, options.seed + options.seeds):
            more, failed = fuzz(options, influx, tidelake, seed, statements)
            figures.update(more)
            failures += failed
    for seed, number, statement, found in failures[: options.most]:
        print(f"seed {seed} number {number}: {statement}\n  {found[:600]}")
    print(", ".join(f"{count:,} {name}" for name, count in sorted(figures.items())), f"; {len(failures)} differ")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
