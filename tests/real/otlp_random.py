"""Random OTLP requests, in protobuf, JSON and over gRPC; every series, sample, histogram and exemplar must be what `otlp_model.py` says.

The model translates messages that Google's library decoded, label by label, as Prometheus does it. Each strategy of names, and each way to
keep histograms, resources and scopes, has a server of its own.
"""
import argparse
import gzip
import json
import random
import struct
import time
from pathlib import Path

from harness import Tidelake, folder, package, prometheus_api, request
from otlp_model import Model

UNITS = ["", "1", "s", "ms", "By", "%", "By/s", "1/s", "{request}", "{packets}/s", "m/s", "KiBy", "Cel", "foo", "foo/bar", "a b", "°C", " s "]
NAMES = ["http.server.duration", "system.memory_usage", "a", "total", "jvm:gc", "1st", "with space", "ratio.ratio", "x_total", "bytes.sent.bytes", "é.ü", "requests-per-second"]
KEYS = ["method", "http.status_code", "host-name", "1digit", "_lead", "a b", "ünï", "le2", "host.name", "host_name"]
VARIANTS = [
    {},
    {"strategy": "UnderscoreEscapingWithoutSuffixes", "nhcb": True},
    {"strategy": "NoUTF8EscapingWithSuffixes", "promote": ["service.name", "k8s.pod", "level"]},
    {"strategy": "NoTranslation", "promote_all": True, "ignore": ["service.name"]},
    {"scopes": True, "keep_identifying": True, "type_and_unit": True},
]


def flags(strategy=None, nhcb=False, promote=(), promote_all=False, ignore=(), scopes=False, keep_identifying=False, type_and_unit=False):
    """The settings of a variant, as the server takes them."""
    found = ["--otlp-translation-strategy", strategy] if strategy else []
    found += ["--otlp-promote-resource-attributes", ",".join(promote)] if promote else []
    found += ["--otlp-ignore-resource-attributes", ",".join(ignore)] if ignore else []
    for name, is_set in (
        ("convert-histograms-to-nhcb", nhcb),
        ("promote-all-resource-attributes", promote_all),
        ("promote-scope-metadata", scopes),
        ("keep-identifying-resource-attributes", keep_identifying),
        ("type-and-unit-labels", type_and_unit),
    ):
        found += [f"--otlp-{name}"] if is_set else []
    return found


class Maker:
    """Requests in which no series has two samples of one time."""

    def __init__(self, seed, now):
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
        from opentelemetry.proto.common.v1 import common_pb2
        from opentelemetry.proto.metrics.v1 import metrics_pb2

        self.random, self.now, self.made = random.Random(seed), now, 0
        self.request_type, self.common, self.metrics = metrics_service_pb2.ExportMetricsServiceRequest, common_pb2, metrics_pb2

    def float(self):
        odd = [0.0, -0.0, 1.0, float("inf"), float("-inf"), float("nan"), 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 2.0**63]
        pick = self.random.random
        return self.random.choice(odd) if pick() < 0.3 else struct.unpack("<d", struct.pack("<Q", self.random.getrandbits(62)))[0] if pick() < 0.3 else pick() * 1000

    def text(self):
        return self.random.choice(["", "x", "GET", 'q"uo\\te', "ü€😀", "a;b", "line\nbreak", "<&>\u2028", "v" * 200])

    def any_value(self, value, depth=0):
        kind = self.random.randrange(7 if depth < 3 else 5)
        if kind == 0:
            value.string_value = self.text()
        elif kind == 1:
            value.bool_value = self.random.random() < 0.5
        elif kind == 2:
            value.int_value = self.random.choice([0, -1, 2**63 - 1, -(2**63), self.random.randrange(1000)])
        elif kind == 3:
            value.double_value = self.float() if depth == 0 else self.random.choice([0.5, 1e21, 1e-7, -0.0, 123456789.0])
        elif kind == 4:
            value.bytes_value = self.random.randbytes(self.random.randrange(6))
        elif kind == 5:
            value.array_value.SetInParent()
            for _ in range(self.random.randrange(4)):
                self.any_value(value.array_value.values.add(), depth + 1)
        else:
            value.kvlist_value.SetInParent()
            for key in self.random.sample(["b", "a", "é", "<"], self.random.randrange(4)):
                pair = value.kvlist_value.values.add(key=key)
                self.any_value(pair.value, depth + 1)

    def attributes(self, target, keys):
        for key in self.random.sample(keys, self.random.randrange(min(len(keys), 5) + 1)):
            self.any_value(target.add(key=key).value)

    def times(self, point):
        point.time_unix_nano = self.now + self.random.randrange(-60 * 10**9, 60 * 10**9)
        if self.random.random() < 0.5:
            point.start_time_unix_nano = point.time_unix_nano - self.random.randrange(10**10)
        if self.random.random() < 0.1:
            point.flags = 1
        self.made += 1
        point.attributes.add(key="id").value.int_value = self.made
        self.attributes(point.attributes, KEYS)

    def exemplars(self, point, values):
        for place, value in enumerate(sorted(values)):
            exemplar = point.exemplars.add(time_unix_nano=point.time_unix_nano - (100 - place) * 10**6)
            if self.random.random() < 0.3 and abs(value) < 2**53 and value == int(value):
                exemplar.as_int = int(value)
            else:
                exemplar.as_double = value
            if self.random.random() < 0.7:
                exemplar.trace_id, exemplar.span_id = self.random.randbytes(16), self.random.randbytes(8)
            for key in ("user.id", "note"):
                if self.random.random() < 0.4:
                    exemplar.filtered_attributes.add(key=key).value.string_value = "v" * self.random.choice([1, 30, 60])

    def number(self, metric, data):
        point = data.data_points.add()
        self.times(point)
        if self.random.random() < 0.5:
            point.as_double = self.float()
        else:
            point.as_int = self.random.choice([0, -1, 2**53 + 1, 2**63 - 1, self.random.randrange(10**6)])
        if self.random.random() < 0.3:
            self.exemplars(point, [1.0, 2.5])

    def histogram(self, metric, data):
        point = data.data_points.add()
        self.times(point)
        bounds = sorted(self.random.sample([-1.5, 0.0, 0.005, 0.1, 1.0, 2.5, 10.0, 1e6, 1e22], self.random.randrange(1, 8)))
        counts = [self.random.choice([0, 0, 1, 7]) for _ in range(len(bounds) + 1)]
        point.explicit_bounds.extend(bounds)
        point.bucket_counts.extend(counts)
        point.count = sum(counts)
        if self.random.random() < 0.8:
            point.sum = self.random.random() * 100 if point.count else 0
        if self.random.random() < 0.4:
            self.exemplars(point, [self.random.choice(bounds), 0.05, 1e30])

    def exponential(self, metric, data):
        point = data.data_points.add()
        self.times(point)
        point.scale = self.random.randrange(-4, 21)
        for side in (point.positive, point.negative):
            if self.random.random() < 0.7:
                side.offset = self.random.randrange(-40, 20)  # of the lowest scale more would be infinite
                side.bucket_counts.extend(self.random.choice([0, 0, 0, 1, 5]) for _ in range(self.random.randrange(1, 20)))
        point.zero_count = self.random.randrange(3)
        point.count = sum(point.positive.bucket_counts) + sum(point.negative.bucket_counts) + point.zero_count
        point.sum = self.random.random() * 100 if point.count else 0
        if self.random.random() < 0.4:
            self.exemplars(point, [0.5, 7.0])

    def summary(self, metric, data):
        point = data.data_points.add()
        self.times(point)
        point.count, point.sum = self.random.randrange(100), self.random.random() * 10
        for quantile in self.random.sample([0.0, 0.5, 0.95, 0.999, 1.0], self.random.randrange(4)):
            point.quantile_values.add(quantile=quantile, value=self.float())

    def metric(self, metrics):
        self.made += 1
        metric = metrics.add(name=f"{self.random.choice(NAMES)}.n{self.made}", unit=self.random.choice(UNITS), description=self.text())
        kind = self.random.choice(["gauge", "sum", "histogram", "exponential_histogram", "summary"])
        data = getattr(metric, kind)
        if kind in ("sum", "histogram", "exponential_histogram"):
            data.aggregation_temporality = 2
        if kind == "sum":
            data.is_monotonic = self.random.random() < 0.5
        make = {"gauge": self.number, "sum": self.number, "histogram": self.histogram, "exponential_histogram": self.exponential, "summary": self.summary}[kind]
        for _ in range(self.random.randrange(1, 4)):
            make(metric, data)

    def request(self):
        request = self.request_type()
        for _ in range(self.random.randrange(1, 4)):
            resource = request.resource_metrics.add()
            self.made += 1
            for key, value in (("service.name", f"svc{self.made}"), ("service.namespace", "ns"), ("service.instance.id", f"i{self.made}")):
                if self.random.random() < 0.7:
                    resource.resource.attributes.add(key=key).value.string_value = value
            self.attributes(resource.resource.attributes, ["k8s.pod", "level", "host.name", "host_name", "os.type"])
            for _ in range(self.random.randrange(1, 3)):
                scope = resource.scope_metrics.add(schema_url=self.random.choice(["", "https://example.com/1"]))
                scope.scope.name = self.random.choice(["", "lib"])
                scope.scope.version = self.random.choice(["", "1.2"])
                self.attributes(scope.scope.attributes, ["short", "dotted.name"])
                for _ in range(self.random.randrange(1, 6)):
                    self.metric(scope.metrics)
        return request


def contents(base, at):
    """Every series with its samples and histograms, and every exemplar."""
    series = {}
    for found in prometheus_api(base, "query", query='{__name__!=""}[1h]', time=at)["result"]:
        samples = {round(float(t) * 1000): repr(float(v)) for t, v in found.get("values", [])}
        for t, h in found.get("histograms", []):
            buckets = [(float(low), float(high), float(count)) for _, low, high, count in h.get("buckets", [])]
            samples[round(float(t) * 1000)] = (float(h["count"]), float(h["sum"]), buckets)
        series[json.dumps(found["metric"], sort_keys=True)] = samples
    for found in prometheus_api(base, "query_exemplars", query='{__name__!=""}', start=at - 3600, end=at):
        labels = "exemplars of " + json.dumps(found["seriesLabels"], sort_keys=True)
        series[labels] = sorted((json.dumps(e["labels"], sort_keys=True), repr(float(e["value"])), round(float(e["timestamp"]) * 1000)) for e in found["exemplars"])
    return series


def close(ours, theirs):
    """Bounds of exponential buckets are powers: their last digits may differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(close(ours[at], theirs[at]) for at in ours)
    if not (isinstance(ours, tuple) and isinstance(theirs, tuple)):
        return ours == theirs
    (count, total, buckets), (their_count, their_total, their_buckets) = ours, theirs
    same = all(abs(a - b) <= 1e-9 * abs(b) or a == b for x, y in zip(buckets, their_buckets) for a, b in zip(x, y))
    return (count, repr(total), len(buckets)) == (their_count, repr(their_total), len(their_buckets)) and same


def compare(seed, ours, theirs):
    lines = [f"seed {seed}: {len(ours)} series, {len(theirs)} expected"]
    for labels in sorted(ours.keys() | theirs.keys()):
        if not close(ours.get(labels), theirs.get(labels)):
            lines.append(f"{labels}\n  found    {ours.get(labels)}\n  expected {theirs.get(labels)}")
    assert len(lines) == 1, "\n".join(lines[:9])


def send(server, made, turn, channel):
    """By turns as JSON, over gRPC, and as protobuf of each encoding."""
    body = made.SerializeToString()
    path, proto = f"{server.url}/api/v1/otlp/v1/metrics", {"Content-Type": "application/x-protobuf"}
    if turn % 4 == 0:
        text = as_json(made).encode()
        status, answer = request(path, gzip.compress(text), {"Content-Type": "application/json", "Content-Encoding": "gzip"})
        assert (status, answer) == (200, "{}"), f"{status} {answer}\n{made}"
    elif turn % 4 == 1:
        assert channel(body) == b"", made
    elif turn % 4 == 2:
        status, answer = request(path, body, proto)
        assert (status, answer) == (200, ""), f"{status} {answer}\n{made}"
    else:
        status, answer = request(path, gzip.compress(body), {**proto, "Content-Encoding": "gzip"})
        assert (status, answer) == (200, ""), f"{status} {answer}\n{made}"


def as_json(made):
    """JSON of OTLP is that of protobuf, but for ids in hexadecimal and numbers of enums."""
    import base64

    from google.protobuf import json_format

    def walk(value):
        if isinstance(value, dict):
            return {k: base64.b64decode(v).hex() if k in ("traceId", "spanId") else walk(v) for k, v in value.items()}
        return [walk(item) for item in value] if isinstance(value, list) else value

    return json.dumps(walk(json_format.MessageToDict(made, use_integers_for_enums=True)))


def run_variant(options, place, variant, seed, requests):
    import grpc

    place.mkdir()
    now = time.time_ns()
    maker, model = Maker(seed, now), Model(**variant)
    with Tidelake(options.bin, place, more=flags(**variant)) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export")
        for turn in range(requests):
            made = maker.request()
            send(server, made, turn, export)
            model.add(made)
        at = now // 10**9 + 120
        compare(seed, contents(server.url, at), model.series)
        server.post("/admin/flush")
        compare(seed, contents(server.url, at), model.series)
        return len(model.series)


def run(options, seed=None, requests=40):
    package("grpc")
    package("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    seed = random.randrange(10**6) if seed is None else seed
    with folder() as place:
        counts = [run_variant(options, Path(place) / str(number), variant, seed + number, requests) for number, variant in enumerate(VARIANTS)]
    return f"seed {seed}: {sum(counts)} series and lists of exemplars of {len(VARIANTS) * requests} requests"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--requests", type=int, default=40)
    given = parser.parse_args()
    print(run(given, given.seed, given.requests))
