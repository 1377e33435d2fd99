"""What OTLP messages are in Prometheus, said once more and plainly: messages that a library decoded, dictionaries, no caches."""
import base64
import json
import math
import re

MAIN_UNITS = {
    **{"d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"},
    **{"By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes", "TiBy": "tibibytes"},
    **{"KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes"},
    **{"m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius", "Hz": "hertz", "1": "", "%": "percent"},
}
PER_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
IDENTIFYING = ("service.namespace", "service.name", "service.instance.id")


def units(unit):
    main, _, per = unit.partition("/")
    main, per = main.strip(), per.strip()
    main = "" if re.search("[{}]", main) else MAIN_UNITS.get(main, main)
    per = "" if re.search("[{}]", per) else PER_UNITS.get(per, per)
    return main, f"per_{per}" if per else ""


def clean(unit):
    return re.sub("__+", "_", re.sub("[^a-zA-Z0-9:]", "_", unit)).removeprefix("_")


def unit_name(unit, escapes):
    main, per = units(unit)
    if escapes:
        main, per = clean(main), clean(per)
    return "_".join(filter(None, [main, per])).removeprefix("_").removesuffix("_")


def cut(name, suffix):
    return name[: -len(suffix) - 1] if name.endswith(suffix) and len(name) > len(suffix) + 1 else name


def metric_name(name, unit, kind, strategy):
    main, per = units(unit)
    last = "total" if kind == "counter" else "ratio" if kind == "gauge" and unit == "1" else ""
    if strategy == "NoTranslation":
        return name
    if strategy == "NoUTF8EscapingWithSuffixes":
        name = cut(name, last) if last else name
        name = cut(name, per) if per else name
        name = name if not main or name.endswith(main) else f"{name}_{main}"
        return "_".join([name, *filter(None, [per, last])])
    if strategy == "UnderscoreEscapingWithoutSuffixes":
        name = "_".join(filter(None, re.split("[^a-zA-Z0-9:_]", name)))
    else:
        words = [word for word in re.split("[^a-zA-Z0-9:]", name) if word]
        main, per = clean(main), clean(per)
        main = "" if main in words else main
        per = "" if per in ("per_", *words) else per.removesuffix("_")
        words += [word for word in (main.removesuffix("_") if per else main, per) if word]
        words = [word for word in words if word != last] + [last] if last else words
        name = "_".join(words)
    return f"_{name}" if name[:1].isdigit() else name


def label_name(name):
    name = re.sub("[^a-zA-Z0-9_]", "_", name)
    if name[0].isdigit():
        return f"key_{name}"
    return f"key{name}" if name[0] == "_" and not name.startswith("__") else name


def number(value):
    if value != 0 and not 1e-6 <= abs(value) < 1e21:
        digits, exponent = re.fullmatch(r"(.*?)(?:\.0)?e([+-]\d+)", f"{value!r}" if "e" in repr(value) else shortest(value)).groups()
        return f"{digits}e{int(exponent):+d}"
    return plain(value)


def shortest(value):
    """With an exponent, in as few digits as say the same."""
    return next(text for text in (f"{value:.{places}e}" for places in range(17)) if float(text) == value)


def plain(value):
    """Without an exponent, in as few digits as say the same."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value):
        return "-0" if math.copysign(1, value) < 0 and value == 0 else str(int(float(shortest(value)))) if abs(value) < 1e15 else f"{shortest_integer(value)}"
    digits, _, exponent = shortest(value).partition("e")
    return f"{value:.{max(len(digits.lstrip('-').replace('.', '')) - 1 - int(exponent), 0)}f}"


def shortest_integer(value):
    digits, _, exponent = shortest(value).partition("e")
    whole, _, rest = digits.partition(".")
    return whole + rest.ljust(int(exponent), "0")


def text(value):
    kind = value.WhichOneof("value")
    if kind in ("array_value", "kvlist_value"):
        return as_json(value)
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    if kind == "int_value":
        return str(value.int_value)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if kind == "double_value":
        odd = math.isnan(value.double_value) or math.isinf(value.double_value)
        shown = "NaN" if math.isnan(value.double_value) else None
        return f"json: unsupported value: {shown or plain(value.double_value)}" if odd else number(value.double_value)
    return ""


def as_json(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return "[" + ",".join(map(as_json, value.array_value.values)) + "]"
    if kind == "kvlist_value":
        entries = sorted({pair.key: pair.value for pair in value.kvlist_value.values}.items(), key=lambda entry: entry[0].encode())
        return "{" + ",".join(f"{quoted(key)}:{as_json(item)}" for key, item in entries) + "}"
    if kind in ("string_value", "bytes_value"):
        return quoted(text(value))
    return "null" if kind is None else text(value)


def quoted(value):
    found = json.dumps(value, ensure_ascii=False)
    for c in "<>&\u2028\u2029":
        found = found.replace(c, f"\\u{ord(c):04x}")
    return found


class Model:
    """Series of all requests so far, as a range query and a query of exemplars show them."""

    def __init__(self, strategy="UnderscoreEscapingWithSuffixes", nhcb=False, promote=(), promote_all=False, ignore=(), scopes=False, keep_identifying=False, type_and_unit=False):
        self.strategy, self.nhcb, self.promote, self.promote_all, self.ignore = strategy, nhcb, promote, promote_all, ignore
        self.scopes, self.keep_identifying, self.type_and_unit = scopes, keep_identifying, type_and_unit
        self.escapes = strategy.startswith("Underscore")
        self.series, self.exemplars = {}, {}

    def attributes(self, pairs, ignored=()):
        labels = {}
        for key, value in sorted((pair.key, text(pair.value)) for pair in pairs):
            if key not in ignored:
                label = label_name(key) if self.escapes else key
                labels[label] = f"{labels[label]};{value}" if labels.get(label) else value
        return labels

    def identity(self, resource):
        found = {pair.key: text(pair.value) for pair in resource.attributes}
        job = found.get("service.name")
        if job is not None and "service.namespace" in found:
            job = f"{found['service.namespace']}/{job}"
        return {name: value for name, value in (("job", job), ("instance", found.get("service.instance.id"))) if value}

    def add(self, request):
        for of_resource in request.resource_metrics:
            times = []
            for of_scope in of_resource.scope_metrics:
                for metric in of_scope.metrics:
                    times += self.metric(of_resource.resource, of_scope, metric)
            if times:
                self.target_info(of_resource.resource, min(times), max(times))

    def target_info(self, resource, first, last):
        if all(pair.key in IDENTIFYING for pair in resource.attributes):
            return
        labels = self.attributes(resource.attributes, () if self.keep_identifying else IDENTIFYING)
        labels |= self.identity(resource)
        if labels.get("job") or labels.get("instance"):
            for at in [*range(first, last, 150 * 10**9), last]:
                self.put({**labels, "__name__": "target_info"}, at // 10**6, 1.0)

    def labels(self, resource, of_scope, metric, kind, point):
        labels = self.attributes(point.attributes, ("__name__",))
        for pair in resource.attributes:
            if pair.key not in self.ignore if self.promote_all else pair.key in self.promote:
                name = label_name(pair.key) if self.escapes else pair.key
                if not labels.get(name):
                    labels[name] = None
        if None in labels.values():
            promoted = {label_name(p.key) if self.escapes else p.key: text(p.value) for p in resource.attributes if (p.key not in self.ignore if self.promote_all else p.key in self.promote)}
            labels = {name: promoted[name] if value is None else value for name, value in labels.items()}
        labels |= self.identity(resource)
        scope = of_scope.scope
        if self.scopes and scope.name:
            for pair in scope.attributes:
                name = f"otel_scope_{pair.key}"
                labels[label_name(name) if self.escapes else name] = text(pair.value)
            labels |= {"otel_scope_name": scope.name, "otel_scope_version": scope.version, "otel_scope_schema_url": of_scope.schema_url}
        if self.type_and_unit:
            unit = unit_name(metric.unit, self.escapes)
            labels |= {"__type__": kind, **({"__unit__": unit} if unit else {})}
        return labels

    def metric(self, resource, of_scope, metric):
        data = metric.WhichOneof("data")
        kind = {"sum": "counter" if metric.sum.is_monotonic else "gauge", "exponential_histogram": "histogram"}.get(data, data)
        suffix = {"sum": "counter" if metric.sum.is_monotonic else "", "gauge": "gauge"}.get(data, "")
        name = metric_name(metric.name, metric.unit, suffix, self.strategy)
        points = getattr(metric, data).data_points
        for point in points:
            labels = self.labels(resource, of_scope, metric, kind, point)
            at, is_stale = point.time_unix_nano // 10**6, point.flags & 1

            def put(suffix, value, exemplars=(), **extra):
                full = {**labels, **extra, "__name__": name + suffix}
                self.put(full, at, None if is_stale else value)
                self.put_exemplars(full, exemplars)

            if data in ("gauge", "sum"):
                value = point.as_double if point.WhichOneof("value") == "as_double" else float(point.as_int)
                put("", value, point.exemplars if data == "sum" else ())
            elif data == "summary":
                put("_sum", point.sum), put("_count", float(point.count))
                for quantile in point.quantile_values:
                    put("", quantile.value, quantile=plain(quantile.quantile))
            elif data == "exponential_histogram":
                put("", self.exponential(point), point.exemplars)
            elif self.nhcb:
                bounds = [-math.inf, *point.explicit_bounds, math.inf]
                buckets = [(low, high, float(n)) for low, high, n in zip(bounds, bounds[1:], point.bucket_counts) if n]
                put("", (float(point.count), point.sum, buckets), point.exemplars)
            else:
                if point.HasField("sum"):
                    put("_sum", point.sum)
                put("_count", float(point.count))
                below, left = 0, list(point.exemplars)
                for bound, count in zip(point.explicit_bounds, point.bucket_counts):
                    below += count
                    here = []
                    while left and not value_of(left[0]) > bound:
                        here.append(left.pop(0))
                    put("_bucket", float(below), here, le=plain(bound))
                put("_bucket", float(point.count), left, le="+Inf")
        return [point.time_unix_nano for point in points]

    def exponential(self, point):
        down = max(0, point.scale - 8)
        base = 2.0 ** (2.0 ** -(point.scale - down))
        buckets = []
        for side, sign in ((point.negative, -1), (point.positive, 1)):
            counts = {}
            for place, count in enumerate(side.bucket_counts):
                index = ((side.offset + place) >> down) + 1
                counts[index] = counts.get(index, 0) + count
            for index, count in sorted(counts.items(), key=lambda entry: sign * entry[0]):
                # Queries show buckets as far as they are outside the zero bucket.
                inner, outer = sign * max(base ** (index - 1), 1e-128), sign * base**index
                bounds = (inner, outer) if sign > 0 else (outer, inner)
                buckets += [(*bounds, float(count))] if count else []
        if point.zero_count:
            place = sum(1 for low, _, _ in buckets if low < 0)
            buckets.insert(place, (-1e-128, 1e-128, float(point.zero_count)))
        return float(point.count), point.sum, buckets

    def put(self, labels, at, value):
        key = json.dumps({name: value for name, value in labels.items() if value}, sort_keys=True)
        if value is not None:
            self.series.setdefault(key, {})[at] = value if isinstance(value, tuple) else repr(value)

    def put_exemplars(self, labels, exemplars):
        key = "exemplars of " + json.dumps({name: value for name, value in labels.items() if value}, sort_keys=True)
        for exemplar in exemplars:
            found = {name: value.hex() for name, value in (("trace_id", exemplar.trace_id), ("span_id", exemplar.span_id)) if any(value)}
            more = {pair.key: text(pair.value) for pair in exemplar.filtered_attributes}
            if sum(len(name) + len(value) for name, value in {**found, **more}.items()) <= 128:
                found |= more
            self.series.setdefault(key, []).append((json.dumps(found, sort_keys=True), repr(value_of(exemplar)), exemplar.time_unix_nano // 10**6))
            self.series[key].sort()


def value_of(exemplar):
    return exemplar.as_double if exemplar.WhichOneof("value") == "as_double" else float(exemplar.as_int)
