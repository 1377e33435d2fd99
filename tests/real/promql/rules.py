"""Where an older Prometheus is known to answer otherwise than the newest, which Tidelake follows; each with the version that changed it."""
import re

# Annotations of both are compared without what changed: (version, what of a text the older one lacks or has too much).
EMPTY_NAME = ' for metric name ""'  # until 3.7
QUANTILE = "quantile value should be between 0 and 1, got"
SORT_WARNING = "sort is ineffective for range queries"  # since 3.12
MONOTONICITY = "needed to be fixed for monotonicity"  # with details since 3.10
CONFLICT = "conflicting counter resets"  # since 3.7
OMITTED = re.compile(r"\d+ more (warning|info) annotations omitted")
MOST = 10  # annotations of a kind that are told
COMPARISON = re.compile(r" (?:[<>]=?|==|!=)(?! bool)")
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


def over_subquery(expr, want, got):
    return any(child.op == "subquery" for child in expr.children())


def histograms(expr, want, got):
    return any(isinstance(value, dict) for value in numbers(got))


def histograms_in_subquery(expr, want, got):
    return has("subquery")(expr, want, got) and "native" in str(expr)


def of_custom_buckets(expr, want, got):
    """The newer one has a histogram where the older one found bounds that do not fit."""
    return "native_custom" in str(expr) and histograms(expr, want, got)


def has(op):
    return lambda expr, want, got: any(node.op == op for node in expr.walk())


# (operation, the version that changed it, whether the answers are those of the change).
KNOWN = [
    # The first bucket was left out if the lower bound is in it.
    ("histogram_fraction", (3, 8), lambda expr, want, got: True),
    # A name that had to go stayed; series without `instance` and `job` were lost; negated names; series that come and go.
    ("info", (3, 12), lambda expr, want, got: True),
    (None, (3, 12), has("info")),
    # 0 in place of NaN.
    ("mad_over_time", (3, 14), lambda expr, want, got: "NaN" in numbers(got)),
    # Comparisons that left no value of a second match did not notice that there was one.
    ("binary", (3, 9), refuses("multiple matches for labels")),
    *((op, (3, 6), refuses("Parameter value is NaN")) for op in ("topk", "bottomk", "limitk", "limit_ratio")),
    *((op, (3, 6), refuses("overflows int64")) for op in ("topk", "bottomk", "limitk")),  # where there were series only
    # Steps that gave nothing did not notice either.
    ("subquery", (3, 9), refuses("multiple matches for labels")),
    ("subquery", (3, 6), refuses("Parameter value is NaN")),
    # Whether a group has a name was taken from some other series.
    ("fold", (3, 14), lambda expr, want, got: "__name__" in str(expr) and " by " in str(expr) and not want.error and not got.error),
    (None, (3, 9), took_as_one),
    # The name stayed over a subquery of what has none.
    ("last_over_time", (3, 12), over_subquery),
    # A native histogram was not cut at where it began.
    *((op, (3, 6), histograms) for op in ("rate", "increase", "delta")),
    # Extrapolated to where a counter would have been zero by another formula.
    *((op, (3, 0), lambda expr, want, got: True) for op in ("rate", "increase")),
    # Before 3.0: a name stayed beside atan2 and was taken from the other side of a comparison; means were added up less exactly; infinity and NaN deviated by nothing or by too much; `sum` began at 0, not at -0; a pinned window
    # gave one value; a subquery of what never changes went one step too far; and of several matches only some were refused.
    ("binary", (3, 0), lambda expr, want, got: " atan2" in "".join(part for part in expr.parts if isinstance(part, str))),
    *((op, (3, 0), lambda expr, want, got: "NaN" in numbers(got) or "+Inf" in numbers(got)) for op in ("fold", "stddev_over_time", "stdvar_over_time")),
    ("binary", (3, 0), lambda expr, want, got: COMPARISON.search("".join(part for part in expr.parts if isinstance(part, str))) is not None),
    *((op, (3, 0), lambda expr, want, got: True) for op in ("avg_over_time", "count_values", "predict_linear", "quantile")),
    *((op, (3, 0), lambda expr, want, got: "overflows int64" in want.message) for op in ("topk", "bottomk")),
    ("fold", (3, 0), lambda expr, want, got: "-0" in numbers(want)),
    ("quantile_over_time", (3, 0), lambda expr, want, got: " @ " in str(expr)),
    ("subquery", (3, 0), lambda expr, want, got: not got.error),
    (None, (3, 0), refuses("multiple matches for labels")),
    (None, (3, 0), refuses("found duplicate series for the match group")),
    # Native histograms were added up less exactly.
    ("avg_over_time", (3, 11), histograms),
    # Hints of resets in subqueries.
    (None, (3, 6), histograms_in_subquery),
    # Custom buckets of different bounds were not computed with.
    *((op, (3, 8), of_custom_buckets) for op in ("fold", "binary", "rate", "increase", "delta", "irate", "idelta", "sum_over_time", "avg_over_time")),
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
        if any(OMITTED.match(text) for text in wanted) or (len(wanted) == MOST and any(OMITTED.match(text) for text in given)):
            # Which ten are told is open, and the newer one may have another kind to tell.
            return None
        wanted, given = (dict(self.normal(text) for text in texts) for texts in (wanted, given))
        if not self.version.knows("sort warning"):
            given = {text: place for text, place in given.items() if SORT_WARNING not in text}
        if not self.version.knows("conflicting counter resets"):
            given = {text: place for text, place in given.items() if CONFLICT not in text}
        if not self.version.knows("largest parameter in annotations"):
            wanted, given = ({QUANTILE if QUANTILE in text else text: place for text, place in texts.items()} for texts in (wanted, given))
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
