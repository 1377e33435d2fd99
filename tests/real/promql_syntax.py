#!/usr/bin/env python3
"""Expressions that are nearly right: a real Prometheus and Tidelake must agree on which of them are PromQL, and how they are formatted.

    tests/real/promql_syntax.py --seed 7 --expressions 100000
    tests/real/promql_syntax.py --query 'sum(up'

Closes with how many both took, how many both refused, and how many only one took, by the reason why that is right.
"""
import argparse
import json
import os
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from harness import ROOT, Skipped, folder, program  # noqa: E402
from promql.data import BEGIN, END  # noqa: E402
from promql.grammar import Grammar  # noqa: E402
from promql.mutate import Mutator  # noqa: E402
from promql.servers import Servers  # noqa: E402
from promql.versions import Version  # noqa: E402

PATH = "/api/v1/format_query"


class Verdicts:
    """Whether each server takes an expression."""

    def __init__(self, servers, version):
        self.servers, self.version = servers, version
        self.counts, self.failures = Counter(), []

    def look(self, text):
        """[(whether it is taken, the formatted text or what is said against it)] of both."""
        out = []
        for status, body in self.servers.post(PATH, query=text):
            answer = json.loads(body)
            taken = {"success": True, "error": False}[answer["status"]] if status in (200, 400) else status
            out.append((taken, answer.get("data") or answer.get("error", "")))
        return out

    def judge(self, text):
        (want, reference), (got, subject) = self.look(text)
        if want is got is True and reference != subject:
            reason = printed_otherwise(reference, subject, self.version)
        elif want == got and isinstance(got, bool):
            self.counts["taken by both, and formatted alike" if want else "refused by both"] += 1
            return
        else:
            reason = why(text, want, got, reference, subject, self.version)
            reason = reason and f"only {'Prometheus' if want is True else 'Tidelake'}: {reason}"
        if reason:
            self.counts[reason] += 1
            return
        self.failures.append((text, reference, subject))
        print(f"DIFFERENT: {text!r}\n  prometheus: {reference}\n  tidelake: {subject}", flush=True)


# Words and signs that came after 3.5, where that does not know them.
NEWER = re.compile(
    rb"\b(anchored|smoothed|fill|fill_left|fill_right|step|range|start|end|min_of|max_of|first_over_time|ts_of_first_over_time|histogram_quantiles"
    rb"|start_timestamp)\b|</|>/",
    re.I,
)
# (who takes it, until which version, what is said by who refuses it, why that is right)
REASONS = [
    ("Prometheus", None, "not valid UTF-8", "escapes that are no UTF-8 in matchers and groupings: labels here are, so no series could match"),
    ("Prometheus", None, "timestamp out of bounds for @ modifier", "times of more than 290 million years"),
    ("Prometheus", None, "nested too deeply", "more than 200 levels"),
    ("Prometheus", (3, 12), "duration out of range", "a duration of NaN or infinity, refused since 3.12"),
    ("Prometheus", (3, 12), "no @ modifiers allowed before range", "@ start() before a range, refused since"),
    ("Prometheus", (3, 12), "expected ':'", "nonsense that begins with x within brackets, which older versions pass over"),
    ("Tidelake", (3, 6), "unexpected colon 'm'", "min and max of durations"),
    ("Tidelake", (3, 6), 'unexpected "m" in subquery selector', "min and max of durations"),
    ("Tidelake", (3, 13), "duration must be greater than 0", "parentheses around a literal of a duration, which make it an expression since"),
    ("Tidelake", (3, 6), "unexpected character in duration expression: 'm'", "min and max of durations"),
    ("Tidelake", (3, 12), "in offset, expected", "operators after the duration of an offset, which belong to it in 3.5"),
]


def why(text, want, got, reference, subject, version):
    """Why it is right that only one takes an expression; None if it is not."""
    if not isinstance(want, bool) or not isinstance(got, bool):
        return None
    taker, said = ("Prometheus", subject) if want else ("Tidelake", reference)
    for who, until, words, reason in REASONS:
        if who == taker and words in said and (until is None or version.number < until):
            return reason
    if version.number < (3, 12) and OFFSET.search(text) and ("binary expression must contain only" in said if want else "duration out of range" in said):
        return "operators after the duration of an offset, which belong to it in 3.5"
    if got and version.number < (3, 14) and NEWER.search(text):
        return "words that its version does not know"
    return None


OFFSET = re.compile(rb"offset\s*[-+]*(\(|\w+\s*[-+*/%^])")
PARENTHESES = re.compile(r"(?:[\[:]|offset)\s*-*\(")
AROUND_DURATION = re.compile(r"\((-?[\w.]+)\)")
QUOTES = re.compile(r'["\\]')
ESCAPE = re.compile(r"\\U([0-9a-f]{8})")
NOTHING = re.compile(r" offset -?0s")


def printed_otherwise(reference, subject, version):
    """Why it is right that the two write an expression in different forms; None if it is not."""
    older = version.number < (3, 14)
    # Where lines are broken depends on how long they are.
    unwrapped = ["".join(AROUND_DURATION.sub(r"\1", text).split()) for text in (reference, subject)]
    if older and (PARENTHESES.search(subject) or unwrapped[0] == unwrapped[1]):
        return "formatted otherwise: parentheses around durations, which older versions drop"
    if version.number < (3, 9) and "ignoring () group_" in subject:
        return "formatted otherwise: ignoring () with a group, which older versions drop"
    spelled = ["".join(QUOTES.sub("", ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)).split()) for text in (reference, subject)]
    if older and spelled[0] == spelled[1]:
        return "formatted otherwise: labels that are no plain names, which are quoted since"
    if reference.replace(", )", ", {})") == subject:
        return "formatted otherwise: an empty selector of info, for which Prometheus writes nothing"
    if NOTHING.sub("", reference) == subject:
        return "formatted otherwise: offsets of no millisecond"
    return None


def corpus(seed, version, count):
    """Valid expressions."""
    return [str(Grammar(random.Random(f"{seed}:{index}"), version, BEGIN, END).query(3)) for index in range(count)]


def fuzz(options, seed, expressions):
    prometheus = options.prometheus or program("prometheus")
    version = Version.of(prometheus)
    if version.number < (3, 0):
        raise Skipped(f"Prometheus 3 not found, whose grammar Tidelake's is; there is {version.text}")
    rng = random.Random(seed)
    with folder() as place, Servers(prometheus, version, options.bin, place) as servers:
        verdicts = Verdicts(servers, version)
        if options.query:
            for taken, said in verdicts.look(options.query):
                print(taken, said)
            return verdicts
        valid, mutator = corpus(seed, version, 500), Mutator(rng)
        for text in valid:
            verdicts.judge(text.encode())
        for _ in range(expressions):
            verdicts.judge(mutator.mutated(rng.choice(valid)))
            if len(verdicts.failures) >= options.failures:
                break
    return verdicts


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "tidelake"
    parser.add_argument("--bin", default=str(built), help="the server")
    parser.add_argument("--prometheus", help="the program; else that of the path")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--expressions", type=int, default=10_000)
    parser.add_argument("--failures", type=int, default=20, help="how many differences end it")
    parser.add_argument("--query", help="this expression instead")
    return parser.parse_args()


def main():
    options = arguments()
    began = time.monotonic()
    try:
        verdicts = fuzz(options, options.seed, options.expressions)
    except Skipped as reason:
        sys.exit(f"skipped: {reason}")
    taken = time.monotonic() - began
    for name, count in sorted(verdicts.counts.items()):
        print(f"{count:8,} {name}")
    print(f"seed {options.seed}: {len(verdicts.failures)} differences, {sum(verdicts.counts.values()) / taken:.0f} expressions a second")
    sys.exit(bool(verdicts.failures))


def run(options):
    """As one of the tests of run.py: a fixed seed."""
    options = argparse.Namespace(bin=options.bin, prometheus=None, query=None, failures=20)
    verdicts = fuzz(options, 1, 3000)
    assert not verdicts.failures, f"{len(verdicts.failures)} expressions are taken or formatted otherwise"
    return ", ".join(f"{count:,} {name}" for name, count in sorted(verdicts.counts.items()))


if __name__ == "__main__":
    main()
