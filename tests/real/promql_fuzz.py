#!/usr/bin/env python3
"""Random PromQL over random data, asked of a real Prometheus and of Tidelake, which must answer alike.

    tests/real/promql_fuzz.py --seed 7 --expressions 2000        # one set of data, 2,000 expressions
    tests/real/promql_fuzz.py --seed 7 --seeds 10                # seeds 7 to 16, each with data of its own
    tests/real/promql_fuzz.py --seed 7 --only 123                # one expression again, with both answers
    tests/real/promql_fuzz.py --seed 7 --query 'rate(up[5m])' --time 1767226000 [--end T --step S]

A seed makes the data, and with the number of an expression the expression and its times. Closes with the figures.
"""
import argparse
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import ROOT, Skipped, folder, program  # noqa: E402
from promql.compare import DIFFERENT, KNOWN, ROUNDED  # noqa: E402
from promql.data import BEGIN, END, Data  # noqa: E402
from promql.grammar import Expr, Grammar  # noqa: E402
from promql.judge import Judge  # noqa: E402
from promql.rules import Rules  # noqa: E402
from promql.servers import Query, Servers  # noqa: E402
from promql.versions import Version  # noqa: E402


class Figures:
    """What came out of many expressions."""

    def __init__(self):
        self.ranks, self.ops, self.filled, self.refused, self.queries = Counter(), Counter(), 0, Counter(), 0
        self.failures, self.rounded_by, self.known = [], Counter(), Counter()

    def count(self, expr, want, verdict):
        self.queries += 1
        self.ranks[verdict.rank + (" in a part" if verdict.carried else "")] += 1
        if verdict.rank == KNOWN:
            self.known[verdict.expr.op] += 1
        if want.error:
            self.refused[want.error] += 1
        elif want.filled():
            self.filled += 1
            self.ops.update(node.op for node in expr.walk())

    def __str__(self):
        ranks = ", ".join(f"{count:,} {rank}" for rank, count in sorted(self.ranks.items()))
        refused = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.refused.items()))
        return f"{self.queries:,} queries ({ranks}); {self.filled:,} answers with series, refused by both: {refused or 'none'}" + (
            f"; older Prometheus: {dict(self.known)}" if self.known else ""
        )


def one(seed, index, version, histograms):
    """The expression of a number, and the queries to make of it."""
    rng = random.Random(f"{seed}:{index}")
    names = None
    if histograms:
        from promql.histograms import NAMES

        names = NAMES
    expr = Grammar(rng, version, BEGIN, END, names).query()
    return expr, queries(rng, expr, version)


def queries(rng, expr, version):
    quiet = not version.knows("left-open ranges")
    fraction = 250 if quiet else rng.choice([0, 0, 1, rng.randrange(1000)])
    moment = lambda low, high: rng.randrange(low // 1000, high // 1000) * 1000 + fraction
    lookback = None if quiet or rng.random() < 0.9 else rng.choice([1000, 15000, 60000, 601000])
    out = [Query(str(expr), moment(BEGIN, END + 400_000), lookback=lookback)]
    if expr.type in ("vector", "scalar"):
        start = moment(BEGIN - 60_000, END)
        step = rng.choice([1000, 5000, 15000, 30000, 60000, 61000, 300_000] + ([] if quiet else [1500, 15001]))
        out.append(Query(str(expr), start, start + step * rng.randrange(25) + (0 if quiet else rng.choice([0, 0, 1])), step, lookback))
    return out


def fuzz(options, seed, expressions, report=print):
    """The figures of one seed."""
    prometheus = options.prometheus or program("prometheus")
    version = Version.of(prometheus)
    figures = Figures()
    rng = random.Random(seed)
    histograms = options.histograms and version.knows("histograms")
    data = Data(rng, version, histograms)
    with folder() as place, Servers(prometheus, version, options.bin, place) as servers:
        servers.load(data)
        judge = Judge(servers, Rules(version))
        if options.query:
            ms = lambda text: None if text is None else round(float(text) * 1000)
            query = Query(options.query, ms(options.time), ms(options.end), ms(options.step))
            show(servers, Expr("vector", "given", options.query), query, judge)
            return figures
        for index in [options.only] if options.only is not None else range(expressions):
            expr, asked = one(seed, index, version, histograms)
            for query in asked:
                if options.only is not None:
                    show(servers, expr, query, judge)
                want, verdict = judge.verdict(expr, query, options.exact)
                figures.count(expr, want, verdict)
                if options.exact and verdict.rank == ROUNDED:
                    figures.rounded_by[verdict.expr.op] += 1
                    report(f"rounded: seed {seed} expression {index}: {verdict.query}\n  {verdict.text}")
                if verdict.rank != DIFFERENT:
                    continue
                smallest = judge.shrink(verdict)
                text = f"DIFFERENT: seed {seed} expression {index}: {query}\n  smallest: {smallest.query}\n  {smallest.text}"
                figures.failures.append(text)
                report(text)
                break
            if len(figures.failures) >= options.failures:
                break
    return figures


def show(servers, expr, query, judge):
    want, got, difference = judge.look(expr, query)
    print(query)
    for name, answer in (("prometheus", want), ("tidelake", got)):
        print(f"  {name}: {answer.error or answer.type} {answer.message} {answer.warnings or ''} {answer.infos or ''}")
        for labels, points in answer.series.items():
            print(f"    {dict(labels)} {points[:8]}")
    print(f"  {difference.rank} {difference.text}", flush=True)


def parser():
    out = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "tidelake"
    out.add_argument("--bin", default=str(built), help="the server")
    out.add_argument("--prometheus", help="the program; else that of the path")
    out.add_argument("--seed", type=int, default=random.randrange(10**6))
    out.add_argument("--seeds", type=int, default=1, help="how many seeds, one after the other")
    out.add_argument("--expressions", type=int, default=1000, help="per seed")
    out.add_argument("--failures", type=int, default=20, help="how many differences end a seed")
    out.add_argument("--only", type=int, help="one expression by its number")
    out.add_argument("--query", help="this expression instead")
    out.add_argument("--time", "--start", help="seconds since 1970")
    out.add_argument("--end")
    out.add_argument("--step")
    out.add_argument("--exact", action="store_true", help="also look for where numbers begin to be rounded otherwise")
    out.add_argument("--no-histograms", dest="histograms", action="store_false", help="no native histograms")
    return out


def main():
    options = parser().parse_args()
    failed, began, ops = 0, time.monotonic(), Counter()
    try:
        version = Version.of(options.prometheus or program("prometheus"))
        print(f"Prometheus {version.text}; left out: {', '.join(version.unknown()) or 'nothing'}")
        for seed in range(options.seed, options.seed + options.seeds):
            started = time.monotonic()
            figures = fuzz(options, seed, options.expressions)
            failed += len(figures.failures)
            ops.update(figures.ops)
            print(f"seed {seed}: {figures} ({figures.queries / (time.monotonic() - started):.0f} queries a second)", flush=True)
            if figures.rounded_by:
                print(f"  rounded first by {dict(figures.rounded_by)}")
    except Skipped as reason:
        sys.exit(f"skipped: {reason}")
    if options.seeds > 1 or options.expressions > 100:
        print("how often in answers with series: " + ", ".join(f"{op} {count}" for op, count in ops.most_common()))
    print(f"{failed} differences in {time.monotonic() - began:.0f} s")
    sys.exit(failed > 0)


def run(options):
    """As one of the tests of run.py: fixed seeds."""
    version = Version.of(program("prometheus"))
    failures, texts = [], []
    for seed in (1, 2, 3):
        figures = fuzz(parser().parse_args(["--bin", options.bin]), seed, 200)
        failures += figures.failures
        texts.append(f"seed {seed}: {figures}")
    assert not failures, f"{len(failures)} expressions are answered otherwise"
    return f"Prometheus {version.text}, without {', '.join(version.unknown()) or 'nothing'}; " + "; ".join(texts)


if __name__ == "__main__":
    main()
