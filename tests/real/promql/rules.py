"""Where an older Prometheus is known to answer otherwise than the newest, which Tidelake follows; each with the version that changed it."""
import re

# Annotations of both are compared without what changed: (version, what of a text the older one lacks or has too much).
EMPTY_NAME = ' for metric name ""'  # until 3.7
SORT_WARNING = "sort is ineffective for range queries"  # since 3.12
MONOTONICITY = "needed to be fixed for monotonicity"  # with details since 3.10
OMITTED = re.compile(r"\d+ more (warning|info) annotations omitted")
PLACE = re.compile(r" \((\d+):(\d+)\)$")


def numbers(answer):
    return [value for points in answer.series.values() for _, value in points]


def refuses(words):
    """The newer one refuses with these words what the older one answered."""
    return lambda expr, want, got: not want.error and words in got.message


def took_as_one(expr, want, got):
    """The older one found two series of one label set before names had gone that were only to go at the end."""
    return "vector cannot contain metrics with the same labelset" in want.message and not got.error


def joins_sides(expr, want, got):
    return any(part.startswith(" or") for part in expr.parts if isinstance(part, str))


def has(op):
    return lambda expr, want, got: any(node.op == op for node in expr.walk())


# (operation, the version that changed it, whether the answers are those of the change).
KNOWN = [
    # The first bucket was left out if the lower bound is in it.
    ("histogram_fraction", (3, 8), lambda expr, want, got: True),
    # A name that had to go stayed; series without `instance` and `job` were lost; negated names; series that come and go.
    ("info", (3, 12), lambda expr, want, got: True),
    ("subquery", (3, 12), has("info")),
    # 0 in place of NaN.
    ("mad_over_time", (3, 14), lambda expr, want, got: "NaN" in numbers(got)),
    # Comparisons that left no value of a second match did not notice that there was one.
    ("binary", (3, 9), refuses("multiple matches for labels: many-to-one matching must be explicit")),
    *((op, (3, 6), refuses("Parameter value is NaN")) for op in ("topk", "bottomk", "limitk", "limit_ratio")),
    (None, (3, 9), took_as_one),
    # Names that had to go on one side were taken for names of the other.
    ("binary", (3, 9), joins_sides),
]


class Rules:
    """What of an answer depends on the version of Prometheus."""

    def __init__(self, version):
        self.version = version

    def known(self, expr, want, got):
        return any(op in (None, expr.op) and self.version.number < since and fits(expr, want, got) for op, since, fits in KNOWN)

    def apart(self, wanted, given):
        """The annotations that only one has, as a pair; None if there are none."""
        if not self.version.knows("annotations"):
            return None
        if any(OMITTED.match(text) for text in wanted):
            # Which ten are told is open.
            return None
        wanted, given = (dict(self.normal(text) for text in texts) for texts in (wanted, given))
        if not self.version.knows("sort warning"):
            given = {text: place for text, place in given.items() if SORT_WARNING not in text}
        if wanted.keys() != given.keys():
            return sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
        return None

    def normal(self, text):
        """(text, place): which of several places with one text is named depends on the order of evaluation."""
        place = PLACE.search(text)
        text = PLACE.sub("", text)
        if not self.version.knows("names in annotations only if there are any"):
            text = text.replace(EMPTY_NAME, "")
        if MONOTONICITY in text and not self.version.knows("details of monotonicity"):
            text = text[: text.index(MONOTONICITY) + len(MONOTONICITY)] + "".join(re.findall(r' for metric name "[^"]*"', text))
        return text, place.group(0) if place else ""
