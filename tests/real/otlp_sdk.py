"""The OpenTelemetry SDK for Python writes over HTTP and gRPC; PromQL returns what it measured, to the bit and the millisecond.

The points are read from the SDK itself before they are sent. A server that is full or away loses none of them.
"""
import gzip
import json
import logging
import os
import signal
import threading
import time

from harness import Tidelake, eventually, folder, free_port, package, prometheus_api, request

# The SDK takes no infinities and no NaN.
FLOATS = [0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 2.0**63, -1e-7]


class Recorder:
    """A reader's exporter that keeps what it passes on."""

    def __new__(cls, inner):
        from opentelemetry.sdk.metrics.export import MetricExporter

        class Recording(MetricExporter):
            def __init__(self):
                super().__init__(preferred_temporality=inner._preferred_temporality, preferred_aggregation=inner._preferred_aggregation)
                self.sent, self.results = [], []

            def export(self, metrics, timeout_millis=10_000, **more):
                result = inner.export(metrics, timeout_millis=timeout_millis, **more)
                self.sent.append(metrics)
                self.results.append(result)
                return result

            def force_flush(self, timeout_millis=10_000):
                return inner.force_flush(timeout_millis)

            def shutdown(self, timeout_millis=30_000, **more):
                inner.shutdown(timeout_millis)

        return Recording()


def exporter(transport, server, **more):
    if transport == "http":
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

        return OTLPMetricExporter(endpoint=f"{server.url}/v1/metrics", compression=Compression.Gzip, headers={"X-Scope-OrgID": "otel"}, **more)
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    address = f"127.0.0.1:{server.port}"
    return OTLPMetricExporter(endpoint=address, insecure=True, compression=grpc.Compression.Gzip, headers=(("x-scope-orgid", "otel"),), **more)


def provider(recorder, service):
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, ExponentialBucketHistogramAggregation, View
    from opentelemetry.sdk.resources import Resource

    views = [
        View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation()),
        View(instrument_name="explicit", aggregation=ExplicitBucketHistogramAggregation(boundaries=[0.005, 1.0, 2.5, 1e6])),
    ]
    resource = Resource({"service.name": service, "service.namespace": "shop", "service.instance.id": "i-1", "host.name": "h"})
    reader = PeriodicExportingMetricReader(recorder, export_interval_millis=3_600_000)
    return MeterProvider(metric_readers=[reader], resource=resource, views=views), reader


def measure(made, rounds):
    """Uses every instrument of the SDK."""
    meter = made.get_meter("real.test", "1.2")
    requests, queue = meter.create_counter("http.requests", unit="1"), meter.create_up_down_counter("queue.size")
    level, explicit = meter.create_gauge("level.now", unit="Cel"), meter.create_histogram("explicit", unit="s")
    exponential = meter.create_histogram("exponential", unit="By")
    meter.create_observable_gauge("observed", callbacks=[observe])
    for turn in range(rounds):
        for place in range(5):
            attributes = {"path": f"/a/{place}", "http.status_code": 200 + place, "ok": place % 2 == 0, "tags": ["x", 'q"']}
            requests.add(place + turn, attributes)
            queue.add(turn - place, attributes)
            explicit.record(0.004 * (place + turn) ** 3, attributes)
            exponential.record(1.3 ** (place - turn), attributes)
            level.set(FLOATS[(place + turn) % len(FLOATS)], attributes)
        yield


def observe(_):
    from opentelemetry.metrics import Observation

    return [Observation(value, {"nr": str(place)}) for place, value in enumerate(FLOATS)]


def label_text(value):
    return json.dumps(list(value), separators=(",", ":")) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)


def expected(recorder, job):
    """What the points are in Prometheus: {labels: {time: value}}, native histograms as count and sum."""
    names = {
        "http.requests": "http_requests_total",
        "queue.size": "queue_size",
        "level.now": "level_now_celsius",
        "explicit": "explicit_seconds",
        "exponential": "exponential_bytes",
        "observed": "observed",
    }
    series = {}
    for sent in recorder.sent:
        for of_resource in sent.resource_metrics:
            for of_scope in of_resource.scope_metrics:
                for metric in of_scope.metrics:
                    for point in metric.data.data_points:
                        labels = {key.replace(".", "_"): label_text(value) for key, value in point.attributes.items()}
                        labels |= {"job": job, "instance": "i-1"}
                        at = point.time_unix_nano // 10**6

                        def put(name, value, **more):
                            key = json.dumps({**labels, **more, "__name__": name}, sort_keys=True)
                            series.setdefault(key, {})[at] = value

                        name = names[metric.name]
                        if metric.name == "explicit":
                            put(f"{name}_sum", point.sum), put(f"{name}_count", float(point.count))
                            below = 0
                            for bound, count in zip(point.explicit_bounds, point.bucket_counts):
                                below += count
                                put(f"{name}_bucket", float(below), le=f"{bound:.3f}".rstrip("0").rstrip("."))
                            put(f"{name}_bucket", float(point.count), le="+Inf")
                        elif metric.name == "exponential":
                            put(name, (point.count, point.sum, buckets(point)))
                        else:
                            put(name, float(point.value))
    return series


def buckets(point):
    """Upper bounds and counts of an exponential histogram, as a query shows them; scales beyond 8 are merged."""
    down = max(0, point.scale - 8)
    base = 2.0 ** (2.0 ** -(point.scale - down))
    counts = {}
    for place, count in enumerate(point.positive.bucket_counts):
        index = ((point.positive.offset + place) >> down) + 1
        counts[index] = counts.get(index, 0) + count
    found = [(base**index, count) for index, count in sorted(counts.items()) if count]
    return ([(0.0, point.zero_count)] if point.zero_count else []) + found


def same(ours, theirs):
    if isinstance(theirs, tuple):
        (count, total, found), (their_count, their_total, wanted) = ours, theirs
        close = all(abs(a - b) <= 1e-9 * abs(b) and n == m for (a, n), (b, m) in zip(found, wanted))
        return count == their_count and total == their_total and len(found) == len(wanted) and close
    return repr(ours) == repr(theirs)


def stored(server, job):
    series = {}
    base, at = f"{server.url}/db/otel", time.time() + 60
    for found in prometheus_api(base, "query", query=f'{{job="{job}",__name__!="target_info"}}[1h]', time=at)["result"]:
        values = {round(float(t) * 1000): float(value.replace("Inf", "inf")) for t, value in found.get("values", [])}
        for t, histogram in found.get("histograms", []):
            shown = [(0.0 if float(low) < 0 else float(high), float(count)) for _, low, high, count in histogram.get("buckets", [])]
            values[round(float(t) * 1000)] = (float(histogram["count"]), float(histogram["sum"]), shown)
        series[json.dumps(found["metric"], sort_keys=True)] = values
    return series


def compare(server, recorder, service):
    job = f"shop/{service}"
    wanted, found = expected(recorder, job), stored(server, job)
    assert wanted.keys() == found.keys(), f"{service}: {sorted(wanted.keys() ^ found.keys())[:4]}"
    for labels, points in wanted.items():
        assert points.keys() == found[labels].keys(), f"{labels}: {points} {found[labels]}"
        for at, value in points.items():
            assert same(found[labels][at], value), f"{labels} at {at}: {found[labels][at]} should be {value}"
    return sum(map(len, wanted.values()))


def exact(server):
    """All instruments over both transports."""
    from opentelemetry.sdk.metrics.export import MetricExportResult

    points = 0
    for transport in ("http", "grpc"):
        service = f"exact-{transport}"
        recorder = Recorder(exporter(transport, server))
        made, reader = provider(recorder, service)
        for _ in measure(made, 4):
            reader.collect()
            time.sleep(0.01)
        made.shutdown()
        assert set(recorder.results) == {MetricExportResult.SUCCESS}, recorder.results
        points += compare(server, recorder, service)
        info = prometheus_api(f"{server.url}/db/otel", "query", query=f'target_info{{job="shop/{service}"}}')["result"]
        assert [series["metric"]["host_name"] for series in info] == ["h"], info
    metadata = prometheus_api(f"{server.url}/db/otel", "metadata")
    assert metadata["http_requests_total"][0]["type"] == "counter", metadata
    return points


def deltas(server, transport):
    """Deltas are refused by default: the SDK hears of it and goes on."""
    from opentelemetry.sdk.metrics import Counter, Histogram
    from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExportResult

    delta = AggregationTemporality.DELTA
    recorder = Recorder(exporter(transport, server, preferred_temporality={Counter: delta, Histogram: delta}))
    made, reader = provider(recorder, f"delta-{transport}")
    for _ in measure(made, 2):
        reader.collect()
    made.shutdown()
    assert set(recorder.results) == {MetricExportResult.SUCCESS}, recorder.results
    return recorder


def outage(options, place):
    """While the server is away the SDK tries again, and nothing is lost."""
    from opentelemetry.sdk.metrics.export import MetricExportResult

    port = free_port()
    server = Tidelake(options.bin, place, port=port)
    recorders = []
    try:
        for transport in ("http", "grpc"):
            recorder = Recorder(exporter(transport, server, timeout=60))
            recorders.append((transport, recorder, *provider(recorder, f"outage-{transport}")))
        rounds = [measure(made, 3) for _, _, made, _ in recorders]

        def collect():
            for (_, _, _, reader), turn in zip(recorders, rounds):
                next(turn)
                reader.collect(timeout_millis=90_000)

        collect()
        server.stop(signal.SIGKILL)
        sender = threading.Thread(target=collect)
        sender.start()
        time.sleep(2)
        server = Tidelake(options.bin, place, port=port)
        sender.join(90)
        assert not sender.is_alive(), "the SDK still tries"
        collect()
        points = 0
        for transport, recorder, made, _ in recorders:
            made.shutdown()
            assert set(recorder.results) == {MetricExportResult.SUCCESS}, f"{transport}: {recorder.results}"
            points += compare(server, recorder, f"outage-{transport}")
        return points
    finally:
        server.stop(signal.SIGKILL)


def accumulated(server, transport):
    """Deltas that the server sums up are what the SDK would have summed up."""
    recorder = deltas(server, transport)
    totals = {}
    for labels, points in expected(recorder, f"shop/delta-{transport}").items():
        name = json.loads(labels)["__name__"]
        is_delta = name.startswith(("http_requests", "explicit"))
        total = 0.0
        for at, value in sorted(points.items()):
            if name == "exponential_bytes":
                continue
            total = total + value if is_delta else value
            totals.setdefault(labels, {})[at] = total
    found = stored(server, f"shop/delta-{transport}")
    histograms = {labels for labels in found if json.loads(labels)["__name__"] == "exponential_bytes"}
    assert histograms, "no exponential histograms"
    for labels in histograms:
        counts = [value[0] for _, value in sorted(found[labels].items())]
        assert counts == sorted(counts) and counts[-1] == 2, f"{labels}: {counts}"
    assert totals.keys() == found.keys() - histograms, sorted(totals.keys() ^ (found.keys() - histograms))[:4]
    for labels, points in totals.items():
        assert points.keys() == found[labels].keys(), labels
        for at, value in points.items():
            close = abs(found[labels][at] - value) <= 1e-9 * abs(value)
            assert close, f"{labels} at {at}: {found[labels][at]} should be {value}"


def json_and_refusals(server):
    """JSON by hand, and what an answer says of what was refused."""
    point = {"timeUnixNano": str(time.time_ns()), "asDouble": 1.5, "attributes": [{"key": "a", "value": {"stringValue": "b"}}]}
    metrics = [
        {"name": "by.json", "gauge": {"dataPoints": [point]}},
        {"name": "bad", "sum": {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [point, point]}},
    ]
    body = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]})
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", "X-Scope-OrgID": "otel"}
    status, text = request(f"{server.url}/v1/metrics", gzip.compress(body.encode()), headers)
    partial = json.loads(text)["partialSuccess"]
    assert status == 200 and partial["rejectedDataPoints"] == "2", text
    assert "bad" in partial["errorMessage"] and "otlp_delta" in partial["errorMessage"], text
    found = prometheus_api(f"{server.url}/db/otel", "query", query="by_json")["result"]
    assert [(series["metric"], series["value"][1]) for series in found] == [({"__name__": "by_json", "a": "b"}, "1.5")], found
    status, text = request(f"{server.url}/v1/metrics", b"{", {"Content-Type": "application/json"})
    assert status == 400 and json.loads(text)["code"] == 3, text


def run(options):
    package("opentelemetry.sdk.metrics")
    package("opentelemetry.exporter.otlp.proto.http.metric_exporter")
    package("opentelemetry.exporter.otlp.proto.grpc.metric_exporter")
    os.environ["OTEL_SDK_DISABLED"] = "false"
    # What is refused and tried again is expected here.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    with folder() as place, Tidelake(options.bin, place) as server:
        points = exact(server)
        for transport in ("http", "grpc"):
            deltas(server, transport)
            names = {json.loads(labels)["__name__"] for labels in stored(server, f"shop/delta-{transport}")}
            assert names == {"queue_size", "level_now_celsius", "observed"}, names
        json_and_refusals(server)
    with folder() as place, Tidelake(options.bin, place, more=["--otlp-delta", "accumulate"]) as server:
        for transport in ("http", "grpc"):
            accumulated(server, transport)
    with folder() as place:
        kept = outage(options, place)
    return f"{points} samples exact over HTTP and gRPC, {kept} through an outage"
