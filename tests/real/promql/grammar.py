"""Random expressions that are well typed: trees that know their text, so that a part of one can be asked for by itself."""
from promql.data import FLOATS, LABELS, UTF8

VECTOR, SCALAR, MATRIX, STRING = "vector", "scalar", "matrix", "string"

MATH = "abs ceil floor sgn sqrt exp ln log2 log10 sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh deg rad".split()
DATES = "day_of_month day_of_week day_of_year days_in_month hour minute month year".split()
OVER_TIME = (
    "rate rate rate increase increase delta irate idelta deriv changes resets avg_over_time avg_over_time min_over_time max_over_time sum_over_time "
    "count_over_time last_over_time present_over_time stddev_over_time stdvar_over_time mad_over_time first_over_time ts_of_first_over_time "
    "ts_of_last_over_time ts_of_max_over_time ts_of_min_over_time"
).split()
FOLDS = "sum sum avg avg min max count group stddev stdvar".split()
ARITHMETIC = "+ - * / % ^ atan2".split()
COMPARISONS = "== != < > <= >=".split()
SETS = "and or unless".split()
# What a metric has besides `job` and `instance`.
OWN_LABELS = {
    "gauge_other": ["mode"],
    "events_total": ["code"],
    "latency_bucket": ["le"],
    "target_info": ["version", "region"],
    "build_info": ["version"],
}
HISTOGRAM_FIELDS = "histogram_count histogram_sum histogram_avg histogram_stddev histogram_stdvar".split()


class Expr:
    """A node: `parts` are texts and nodes, and one after the other they are the text of the whole."""

    __slots__ = ("type", "op", "parts")

    def __init__(self, type, op, *parts):
        self.type, self.op, self.parts = type, op, parts

    def __str__(self):
        return "".join(map(str, self.parts))

    def children(self):
        return [part for part in self.parts if isinstance(part, Expr)]

    def walk(self):
        yield self
        for child in self.children():
            yield from child.walk()

    def depth(self):
        return 1 + max((child.depth() for child in self.children()), default=0)

    def swapped(self, old, new):
        """The same with one node replaced."""
        if self is old:
            return new
        return Expr(self.type, self.op, *(p.swapped(old, new) if isinstance(p, Expr) else p for p in self.parts))


class Grammar:
    """Makes expressions; all chances are taken from `rng`."""

    def __init__(self, rng, version, begin, end, names=None):
        self.rng, self.version, self.begin, self.end = rng, version, begin, end
        self.quiet = not version.knows("left-open ranges")
        self.histograms = names is not None
        names = dict(names or FLOATS)
        if version.knows("UTF-8 names"):
            names.update(UTF8)
        self.names = names
        self.in_subquery = 0

    # Chances.

    def chance(self, share):
        return self.rng.random() < share

    def one(self, choices):
        """One of a list, or of a dictionary by weight."""
        if isinstance(choices, dict):
            return self.rng.choices(list(choices), list(choices.values()))[0]
        return self.rng.choice(choices)

    def known(self, names):
        return [name for name in names if self.version.knows(name)]

    # Whole expressions.

    def query(self, depth=5):
        """An expression for a whole query. Most are vectors; a range vector can only be asked for at one time."""
        kind = self.one({VECTOR: 92, SCALAR: 4, MATRIX: 4})
        depth = self.rng.randrange(1, depth + 1)
        return {VECTOR: self.vector, SCALAR: self.scalar, MATRIX: self.matrix}[kind](depth)

    def vector(self, depth):
        if depth <= 1:
            return self.selector() if self.chance(0.9) else Expr(VECTOR, "vector", "vector(", self.number(), ")")
        make = self.one(
            {
                self.over_time: 22,
                self.fold: 16,
                self.rank: 5,
                self.vector_binary: 14,
                self.scalar_binary: 9,
                self.set_operation: 5,
                self.function: 10,
                self.label_function: 5,
                self.quantile_of_histogram: 6,
                self.sorted_vector: 2,
                self.absence: 3,
                self.from_scalar: 2,
                self.info: 2 if self.version.knows("info") else 0,
                self.sign: 2,
                self.parenthesis: 2,
                self.selector_at_depth: 3,
            }
        )
        return make(depth - 1)

    def scalar(self, depth):
        if depth <= 1:
            return self.number()
        kind = self.rng.randrange(6)
        if kind == 0:
            return Expr(SCALAR, "time", "time()")
        if kind == 1:
            return Expr(SCALAR, "pi", "pi()")
        if kind < 4:
            return Expr(SCALAR, "scalar", "scalar(", self.vector(depth - 1), ")")
        if kind == 4 and self.chance(0.3):
            return Expr(SCALAR, "unary", "-", self.closed(self.scalar(depth - 1)))
        a, b = self.scalar(depth - 1), self.scalar(depth - 1)
        op = self.one(ARITHMETIC + COMPARISONS)
        return self.binary(SCALAR, op, a, " bool" if op in COMPARISONS else "", b)

    def matrix(self, depth):
        if depth > 1 and self.chance(0.3) and not (self.quiet and self.in_subquery):
            return self.subquery(depth - 1)
        name = self.plain_selector()
        return Expr(MATRIX, "matrix", name, "[", self.duration(), "]", self.shifts())

    # Leaves.

    def number(self):
        plain = "0 1 2 3 -1 0.5 -0.25 10 100 1e3 0x1F 1e-3 2.5e10 .5 1. 1_000 NaN Inf -Inf +Inf 017 0.1 1e300".split()
        if self.quiet:
            plain.remove("1_000")
        if self.version.knows("numbers and durations alike"):
            plain += ["5m", "1h30m", "500ms"]
        return Expr(SCALAR, "number", self.one(plain))

    def seconds(self):
        return self.one([1, 2, 5, 15, 16, 30, 45, 60, 61, 90, 120, 300, 600, 1200, 3600])

    def duration(self, seconds=None):
        """A text of so many seconds."""
        seconds = seconds or self.seconds()
        if self.in_subquery == 0 and not self.quiet and self.chance(0.05):
            return f"{seconds}s{self.rng.randrange(1, 1000)}ms"
        forms = [f"{seconds}s", f"{seconds * 1000}ms"]
        if seconds >= 60:
            forms += [f"{seconds // 60}m{seconds % 60}s" if seconds % 60 else f"{seconds // 60}m"] * 4
        if self.version.knows("numbers and durations alike"):
            forms += [f"{seconds}"]
        if self.version.knows("duration expressions") and self.chance(0.1):
            forms = [f"{seconds}s * 1", f"({seconds}s + 0)", f"2 * {seconds}s / 2", f"2 ^ 3 * {seconds}s / 8", f"-(-{seconds}s)", f"{seconds}s % 1d"]
        return self.one(forms)

    def shifts(self):
        """`offset`, `@`, both or none."""
        out = []
        if self.chance(0.15):
            out.append(f" offset {self.one(['', '', '-', '-' if self.quiet else '+'])}{self.plain_duration()}")
        if self.chance(0.08):
            out.append(f" @ {self.instant()}")
        self.rng.shuffle(out)
        return "".join(out)

    def plain_duration(self):
        seconds = self.seconds()
        return self.one([f"{seconds}s", f"{seconds // 60}m" if seconds >= 60 else f"{seconds}s"])

    def instant(self):
        if self.chance(0.4):
            return self.one(["start()", "end()"])
        whole = self.rng.randrange(self.begin // 1000, self.end // 1000)
        return f"{whole}.25" if self.quiet else self.one([f"{whole}", f"{whole}.{self.rng.randrange(1000):03}"])

    def quoted(self, text):
        double = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        single = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return self.one([double, double, single] + (["`" + text + "`"] if "`" not in text else []))

    def matchers(self, name):
        """Mostly about labels that the metric has."""
        out = []
        own = ["job", "instance", *OWN_LABELS.get(name, [])]
        labels = [self.one(own) if self.chance(0.85) else self.one(sorted(LABELS)) for _ in range(self.one([1, 1, 1, 2]))]
        for label in labels:
            values = LABELS[label]
            op = self.one({"=": 4, "!=": 3, "=~": 4, "!~": 2})
            value = self.one(values)
            if op in ("=~", "!~"):
                plain = [v for v in values if v.replace(".", "").replace(":", "").isalnum()] or ["x"]
                value = self.one([self.one(plain), "|".join(plain[:2]), ".+", ".*", "", plain[0][:1] + ".*", "(?i:" + plain[0].upper() + ")", "[^a]*"])
            elif self.chance(0.1):
                value = ""
            out.append(label + op + self.quoted(value))
        return out

    def plain_selector(self):
        """A name with matchers and nothing else, as text."""
        name = self.one(self.names)
        matchers = self.matchers(name) if self.chance(0.3) else []
        if not name.isidentifier():
            return "{" + ",".join([self.quoted(name), *matchers]) + "}"
        form = self.rng.randrange(20)
        if form == 0:
            return "{" + ",".join([f'__name__="{name}"', *matchers]) + "}"
        if form == 1:
            other = self.one([n for n in self.names if n.isidentifier()])
            return "{" + ",".join([f'__name__=~"{name}|{other}"', *matchers]) + "}"
        return name + ("{" + ",".join(matchers) + "}" if matchers or self.chance(0.03) else "")

    def selector(self):
        return Expr(VECTOR, "selector", self.plain_selector(), self.shifts())

    def selector_at_depth(self, depth):
        return self.selector()

    # Nodes.

    def closed(self, expr):
        """In parentheses, where an operator might take its operand apart."""
        bare = expr.op in ("binary", "unary") or str(expr).startswith(("-", "+"))
        return Expr(expr.type, "parenthesis", "(", expr, ")") if bare and self.chance(0.9) else expr

    def binary(self, type, op, a, modifiers, b):
        return Expr(type, "binary", self.closed(a), f" {op}{modifiers} ", self.closed(b))

    def subquery(self, depth):
        self.in_subquery += 1
        inner = self.vector(depth)
        self.in_subquery -= 1
        seconds = max(self.seconds(), 15)
        range_ = f"{seconds}s500ms" if self.quiet else self.duration(seconds)
        step = self.one(["", self.duration(max(self.seconds(), max(1, seconds // 20))), self.duration(max(1, seconds // 5))])
        return Expr(MATRIX, "subquery", self.enclosed(inner), f"[{range_}:{step}]", self.shifts())

    def enclosed(self, expr):
        return Expr(expr.type, "parenthesis", "(", expr, ")") if expr.op in ("binary", "unary", "fold", "selector") else expr

    def over_time(self, depth):
        kind = self.rng.randrange(20)
        if kind == 0:
            return Expr(VECTOR, "quantile_over_time", "quantile_over_time(", self.scalar(self.rng.randrange(1, 3)), ", ", self.matrix(depth), ")")
        if kind == 1:
            return Expr(VECTOR, "predict_linear", "predict_linear(", self.matrix(depth), ", ", self.scalar(self.rng.randrange(1, 3)), ")")
        if kind == 2 and self.version.knows("double_exponential_smoothing"):
            factors = [self.one(["0.1", "0.5", "0.99", "1", "0", "NaN"]) for _ in range(2)]
            return Expr(VECTOR, "double_exponential_smoothing", "double_exponential_smoothing(", self.matrix(depth), f", {factors[0]}, {factors[1]})")
        name = self.one(self.known(OVER_TIME))
        return Expr(VECTOR, name, f"{name}(", self.matrix(depth), ")")

    def labels(self, few=True):
        """A list of labels in parentheses."""
        names = self.rng.sample(sorted(LABELS), self.one([0, 1, 1, 2, 2, 3]))
        if self.version.knows("UTF-8 names") and self.chance(0.05):
            names.append('"host.name"')
        if self.version.knows("delayed name removal") and self.chance(0.04):
            names.append("__name__")
        return "(" + ", ".join(names) + ("," if names and self.chance(0.03) else "") + ")"

    def grouped(self, type, op, head, *arguments):
        """An aggregation with its grouping before or after the arguments, or without."""
        grouping = f"{self.one(['by', 'by', 'without'])} {self.labels()}"
        form = self.rng.randrange(5)
        if form == 0:
            return Expr(type, op, f"{head}(", *arguments, ")")
        if form == 1:
            return Expr(type, op, f"{head}(", *arguments, f") {grouping}")
        return Expr(type, op, f"{head} {grouping} (", *arguments, ")")

    def fold(self, depth):
        name = self.one(FOLDS)
        return self.grouped(VECTOR, "fold", name, self.vector(depth))

    def rank(self, depth):
        name = self.one(self.known(["topk", "bottomk", "quantile", "count_values", "limitk", "limit_ratio"]))
        if name == "count_values":
            return self.grouped(VECTOR, name, name, self.quoted(self.one(["v", "code", "job"])), ", ", self.vector(depth))
        if name == "limit_ratio":
            parameter = Expr(SCALAR, "number", self.one(["0", "0.3", "-0.3", "0.5", "-0.5", "1", "-1", "2", "-2"]))
        elif name == "quantile":
            parameter = self.scalar(self.rng.randrange(1, 3)) if self.chance(0.3) else Expr(SCALAR, "number", self.one(["0", "0.5", "0.9", "1", "-1", "2"]))
        else:
            parameter = self.scalar(2) if self.chance(0.1) else Expr(SCALAR, "number", self.one(["0", "1", "2", "3", "5", "-1", "1.9"]))
        return self.grouped(VECTOR, name, name, parameter, ", ", self.vector(depth))

    def vector_binary(self, depth):
        a = self.vector(depth)
        if self.chance(0.5):
            b = self.vector(depth)
        else:
            # Something that shares labels with the other side, so that there are matches.
            b = self.grouped(VECTOR, "fold", self.one(FOLDS), a) if self.chance(0.3) else self.selector()
        op = self.one(ARITHMETIC + COMPARISONS)
        return self.binary(VECTOR, op, a, (" bool" if op in COMPARISONS and self.chance(0.4) else "") + self.matching(True), b)

    def matching(self, groups):
        if self.chance(0.35):
            return ""
        # `on` few labels needs a group or an aggregated side to be answered at all; errors are compared too.
        names = self.rng.sample(["job", "instance", "code", "mode", "version"], self.one([0, 1, 2, 2, 3]))
        word = self.one(["on", "ignoring"])
        text = f" {word} ({', '.join(names)})"
        if groups and self.chance(0.5):
            include = [n for n in self.rng.sample(["version", "region", "mode"], self.one([0, 0, 1, 2])) if word == "ignoring" or n not in names]
            text += f" {self.one(['group_left', 'group_right'])}" + self.one([f" ({', '.join(include)})", ""] if not include else [f" ({', '.join(include)})"])
        return text

    def scalar_binary(self, depth):
        op = self.one(ARITHMETIC + COMPARISONS)
        sides = [self.vector(depth), self.scalar(self.rng.randrange(1, 3))]
        if self.chance(0.3):
            sides.reverse()
        return self.binary(VECTOR, op, sides[0], " bool" if op in COMPARISONS and self.chance(0.4) else "", sides[1])

    def set_operation(self, depth):
        b = self.vector(depth) if self.chance(0.5) else self.selector()
        return self.binary(VECTOR, self.one(SETS), self.vector(depth), self.matching(False), b)

    def function(self, depth):
        vector = self.vector(depth)
        kind = self.rng.randrange(12)
        if kind < 5:
            name = self.one(MATH)
            return Expr(VECTOR, name, f"{name}(", vector, ")")
        if kind == 5:
            return Expr(VECTOR, "clamp", "clamp(", vector, ", ", self.scalar(1), ", ", self.scalar(1), ")")
        if kind == 6:
            name = self.one(["clamp_min", "clamp_max"])
            return Expr(VECTOR, name, f"{name}(", vector, ", ", self.scalar(self.rng.randrange(1, 3)), ")")
        if kind == 7:
            return Expr(VECTOR, "round", "round(", vector, *self.one([[], [", ", self.scalar(1)]]), ")")
        if kind == 8:
            name = self.one(DATES)
            return Expr(VECTOR, name, f"{name}(", *self.one([[], [vector]]), ")")
        if kind == 9:
            return Expr(VECTOR, "timestamp", "timestamp(", vector if self.chance(0.3) else self.selector(), ")")
        fields = self.known(HISTOGRAM_FIELDS) if self.histograms else ["histogram_count", "histogram_sum"]
        name = self.one(fields or ["timestamp"])
        return Expr(VECTOR, name, f"{name}(", vector, ")")

    def label_function(self, depth):
        vector = self.vector(depth)
        labels = sorted(LABELS) + ["new"]
        # Whether a name is still there depends on when it goes.
        if self.version.knows("delayed name removal"):
            labels.append("__name__")
        if self.chance(0.6):
            regex = self.one(["(.*)", "(.).*", "(a|b)(.*)", ".*", "x", "", "(?P<n>.+)", "([a-z]+):([0-9])"])
            replacement = self.one(["$1", "${1}", "$2-$1", "fixed", "", "$n", "$$", "a_$1x"])
            texts = [self.one(labels), replacement, self.one(labels), regex]
            return Expr(VECTOR, "label_replace", "label_replace(", vector, "".join(", " + self.quoted(text) for text in texts), ")")
        texts = [self.one(labels), self.one(["", "-", "/"]), *self.rng.sample(labels, self.rng.randrange(4))]
        return Expr(VECTOR, "label_join", "label_join(", vector, "".join(", " + self.quoted(text) for text in texts), ")")

    def quantile_of_histogram(self, depth):
        kind = self.rng.randrange(4)
        if kind == 0:
            vector = self.vector(depth)
        elif kind == 1:
            vector = Expr(VECTOR, "selector", "latency_bucket", self.shifts())
        else:
            window = Expr(MATRIX, "matrix", "latency_bucket[", self.duration(max(60, self.seconds())), "]")
            vector = Expr(VECTOR, "rate", self.one(["rate(", "increase("]), window, ")")
            if kind == 3:
                vector = Expr(VECTOR, "fold", f"sum by (le{self.one(['', ', job', ', instance'])}) (", vector, ")")
        if self.chance(0.2) and self.version.knows("histogram_fraction"):
            return Expr(VECTOR, "histogram_fraction", "histogram_fraction(", self.scalar(1), ", ", self.scalar(1), ", ", vector, ")")
        return Expr(VECTOR, "histogram_quantile", "histogram_quantile(", self.quantile(), ", ", vector, ")")

    def quantile(self):
        return Expr(SCALAR, "number", self.one(["0.5", "0.9", "0.99", "0", "1", "-1", "2", "NaN", "0.001"])) if self.chance(0.85) else self.scalar(2)

    def sorted_vector(self, depth):
        name = self.one(self.known(["sort", "sort_desc", "sort_by_label", "sort_by_label_desc"]))
        labels = "".join(", " + self.quoted(label) for label in self.rng.sample(sorted(LABELS), 2)) if "label" in name else ""
        return Expr(VECTOR, name, f"{name}(", self.vector(depth), labels, ")")

    def absence(self, depth):
        if self.chance(0.5):
            return Expr(VECTOR, "absent_over_time", "absent_over_time(", self.matrix(depth), ")")
        return Expr(VECTOR, "absent", "absent(", self.vector(depth), ")")

    def from_scalar(self, depth):
        return Expr(VECTOR, "vector", "vector(", self.scalar(depth), ")")

    def info(self, depth):
        selector = self.one(["", ", {version=~\".+\"}", ", {region=\"eu\"}", ", {__name__=\"build_info\"}", ", {__name__=~\".+_info\",version!=\"\"}"])
        return Expr(VECTOR, "info", "info(", self.vector(depth), selector, ")")

    def sign(self, depth):
        return Expr(VECTOR, "unary", self.one(["-", "-", "+"]), self.closed(self.vector(depth)))

    def parenthesis(self, depth):
        return Expr(VECTOR, "parenthesis", "(", self.vector(depth), ")")
