"""Senders that are no Prometheus: bodies as Fluent Bit, Vector and vmagent send them, vmagent itself, OpenTelemetry's exporter for remote
write, collectd; and readers of Prometheus' API for Python and Node, which must return what was sent, to the bit."""
import gzip
import json
import math
import struct
import subprocess
import time

from harness import VENV, Process, Skipped, Tidelake, eventually, folder, free_port, package, program, prometheus_api, request
from remote_write import message, nested, snappy, varint

BEGIN = 1_767_225_600_000
# Values by their bits: NaN with a payload is Prometheus' stale marker and would end a series.
HARD = [0.0, -0.0, math.inf, -math.inf, 5e-324, -2.2250738585072014e-308, 1.7976931348623157e308, 2.0**63, 0.1, 1 / 3]
TEXT = 'quote " backslash \\ line\nbreak é 🦀'


def run(options):
    with folder() as place, Tidelake(options.bin, place) as server:
        done = [bodies(server), opentelemetry(server)]
        for optional in (vmagent, collectd, promtool, node_reader):
            try:
                done.append(optional(server, place))
            except Skipped as reason:
                print(f"skipped: {reason} (a part of remote_writers)", flush=True)
        done.append(python_reader(server))
        return "; ".join(done)


def write_request_2(labels, samples):
    """`io.prometheus.write.v2.Request` of one series."""
    symbols = [""] + [text for pair in sorted(labels.items()) for text in pair]
    one = nested(1, b"".join(varint(n) for n in range(1, len(symbols))))
    one += b"".join(nested(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(ms)) for ms, value in samples)
    return b"".join(nested(4, text.encode()) for text in symbols) + nested(5, one)


def bits(text):
    return struct.pack(">d", float(text)).hex()


def read(server, selector, at_ms):
    """{ms: bits} of the only series."""
    found = prometheus_api(server.url, "query", query=f"{selector}[100y]", time=at_ms / 1000)["result"]
    assert len(found) == 1, (selector, found)
    return {round(t * 1000): bits(v) for t, v in found[0]["values"]}


def bodies(server):
    """The same samples in every encoding, with and without a word about it, in 1.0 and 2.0."""
    import zlib

    pa = package("pyarrow")
    samples = [(BEGIN + 1000 * i, value) for i, value in enumerate(HARD)]
    want = {ms: struct.pack(">d", value).hex() for ms, value in samples}
    encodings = {
        "snappy": snappy, "gzip": gzip.compress, "zstd": lambda body: pa.compress(body, codec="zstd", asbytes=True),
        "identity": bytes, None: bytes,
    }
    versions = {
        "application/x-protobuf": lambda labels: message([(labels, samples)]),
        "application/x-protobuf;proto=io.prometheus.write.v2.Request": lambda labels: write_request_2(labels, samples),
    }
    number = 0
    for media, body in versions.items():
        for encoding, compress in encodings.items():
            number += 1
            labels = {"__name__": "encoded", "n": str(number), "text": TEXT}
            headers = {"Content-Type": media, **({"Content-Encoding": encoding} if encoding else {})}
            status, text = request(f"{server.url}/api/v1/write", compress(body(labels)), headers)
            assert status == 204, (media, encoding, status, text)
            assert read(server, f'encoded{{n="{number}"}}', BEGIN + 60_000) == want, (media, encoding)
            if encoding in ("gzip", "zstd"):
                status, text = request(f"{server.url}/api/v1/write", snappy(body(labels)), headers)
                assert status == 415 and "snappy" in text, (media, encoding, status, text)
    status, text = request(f"{server.url}/api/v1/write", zlib.compress(b"x"), {"Content-Type": media, "Content-Encoding": "deflate"})
    assert status == 415 and "deflate" in text, (status, text)
    # What Vector asks before it sends.
    asks = {"X-Prometheus-Remote-Write-Version": "0.1.0", "Content-Encoding": "gzip", "Content-Type": "application/x-protobuf"}
    assert request(f"{server.url}/api/v1/write", headers=asks)[0] == 200
    assert request(f"{server.url}/db/other/api/v1/write", headers=asks)[0] == 200
    assert request(f"{server.url}/api/v1/write")[0] == 405
    assert request(f"{server.url}/ping")[0] == 204
    return f"{number} encodings of {len(HARD)} values"


def opentelemetry(server):
    package("opentelemetry.exporter.prometheus_remote_write")
    from opentelemetry.exporter.prometheus_remote_write import PrometheusRemoteWriteMetricsExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader

    results = []

    class Exporter(PrometheusRemoteWriteMetricsExporter):
        def export(self, *args, **kwargs):
            results.append(super().export(*args, **kwargs))
            return results[-1]

    exporter = Exporter(endpoint=f"{server.url}/api/v1/write", headers={"X-Scope-OrgID": "otel"})
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider(metric_readers=[reader])
    meter = provider.get_meter("test")
    meter.create_counter("orders").add(2.0**53 - 1, {"path": TEXT})
    meter.create_up_down_counter("level").add(-0.1)
    histogram = meter.create_histogram("took", explicit_bucket_boundaries_advisory=[0.5, 2.5])
    for value in (0.25, 0.5, 1.0, 7.0):
        histogram.record(value)
    provider.shutdown()
    assert results and all(result is MetricExportResult.SUCCESS for result in results), results
    now = time.time() + 5

    def value(query):
        found = prometheus_api(f"{server.url}/db/otel", "query", query=query, time=now)["result"]
        assert len(found) == 1, (query, found)
        return found[0]["metric"], found[0]["value"][1]

    names = prometheus_api(f"{server.url}/db/otel", "label/__name__/values")
    counter = next(name for name in names if name.startswith("orders"))
    labels, count = value(counter)
    assert labels["path"] == TEXT and bits(count) == bits(2.0**53 - 1), (labels, count)
    assert bits(value("level")[1]) == bits(-0.1)
    # The exporter names buckets as the histogram itself, and does not add them up.
    buckets = prometheus_api(f"{server.url}/db/otel", "query", query="took", time=now)["result"]
    got = {float(one["metric"]["le"]): one["value"][1] for one in buckets}
    assert got == {0.5: "2", 2.5: "1", math.inf: "1"}, got
    assert value("took_sum")[1] == "8.75" and value("took_count")[1] == "4"
    return f"OpenTelemetry's exporter: {len(names)} metrics"


def vmagent(server, place):
    """vmagent takes samples by remote write and passes them on, also over an outage of Tidelake."""
    agent, port = program("vmagent"), free_port()
    command = [agent, f"-httpListenAddr=127.0.0.1:{port}", f"-remoteWrite.url={server.url}/db/agent/api/v1/write",
               f"-remoteWrite.tmpDataPath={place}/vmagent", "-remoteWrite.flushInterval=200ms", "-remoteWrite.showURL"]
    with Process(command, f"{place}/vmagent.log"):
        eventually("vmagent ready", lambda: request(f"http://127.0.0.1:{port}/health")[0] == 200)
        samples = [(BEGIN + 1000 * i, value) for i, value in enumerate(HARD)]
        body = message([({"__name__": "passed_on", "text": TEXT}, samples)])
        status, text = request(f"http://127.0.0.1:{port}/api/v1/write", snappy(body), {"Content-Encoding": "snappy"})
        assert status == 204, (status, text)
        # vmagent makes decimal numbers of floats on their way, which have no -0.
        want = {ms: struct.pack(">d", value or 0.0).hex() for ms, value in samples}

        def arrived():
            found = prometheus_api(f"{server.url}/db/agent", "query", query="passed_on[100y]", time=BEGIN / 1000 + 60)["result"]
            got = {round(t * 1000): bits(v) for one in found for t, v in one["values"]}
            assert got == want, got
            return True

        eventually("vmagent passing on", arrived, 30)
    return f"vmagent: {len(HARD)} values"


def collectd(server, place):
    """collectd's own measurements by write_http in JSON, beside what its plugin csv wrote of the same."""
    daemon = program("collectd")
    types = "/usr/share/collectd/types.db"
    with open(f"{place}/collectd.conf", "w") as out:
        out.write(f'''Hostname "host with blanks"
FQDNLookup false
Interval 1
BaseDir "{place}"
TypesDB "{types}"
LoadPlugin load
LoadPlugin memory
LoadPlugin csv
<Plugin csv>
  DataDir "{place}/csv"
  StoreRates false
</Plugin>
LoadPlugin write_http
<Plugin write_http>
  <Node "tidelake">
    URL "{server.url}/db/collectd/api/v1/import/collectd"
    Format "JSON"
    StoreRates false
  </Node>
</Plugin>
''')
    with Process([daemon, "-f", "-C", f"{place}/collectd.conf", "-P", f"{place}/collectd.pid"], f"{place}/collectd.log"):
        time.sleep(5)
    sql = "SELECT CAST(time AS BIGINT) / 1000000 AS ms, value FROM load_shortterm WHERE host = 'host with blanks' AND type = 'load' ORDER BY time"
    query = json.dumps({"db": "collectd", "q": sql, "format": "json"})
    status, text = request(f"{server.url}/api/v3/query_sql", query, {"Content-Type": "application/json"})
    assert status == 200, text
    rows = {row["ms"]: row["value"] for row in json.loads(text)}
    assert len(rows) >= 3, text
    from pathlib import Path

    files = list(Path(f"{place}/csv").glob("*/load/load-*"))
    assert files, "collectd wrote no file"
    written = [line.split(",") for file in files for line in file.read_text().splitlines()[1:]]
    # The plugin csv rounds: times to milliseconds, values to six digits.
    expected = {round(float(at) * 1000): float(value) for at, value, *_ in written}
    assert expected.keys() == rows.keys(), (expected, rows)
    assert all(abs(expected[ms] - value) < 1e-5 for ms, value in rows.items()), (expected, rows)
    status, text = request(f"{server.url}/api/v1/import/collectd", "PUTVAL h/p/t interval=1 N:1", {"Content-Type": "text/plain"})
    assert status == 415 and "Format" in text, (status, text)
    return f"collectd: {len(rows)} samples of its load"


def promtool(server, place):
    """promtool pushes by remote write, and asks: at one time, over a range, for series and labels."""
    tool = program("promtool")

    def ask(*words, **more):
        done = subprocess.run([tool, *map(str, words)], capture_output=True, text=True, timeout=60, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    if "push" not in subprocess.run([tool, "--help"], capture_output=True, text=True).stdout:
        raise Skipped("promtool 2.45 or newer not found")
    text = "# TYPE pushed gauge\n" + "".join(f'pushed{{n="{i}"}} {value!r}\n' for i, value in enumerate(HARD))
    ask("push", "metrics", f"{server.url}/db/tool/api/v1/write", input=text.replace("inf", "Inf"))
    url = f"{server.url}/db/tool"
    rows = json.loads(ask("query", "instant", "-o", "json", url, "pushed"))
    # promtool leaves out a value of zero, whatever its sign.
    want = {i: struct.pack(">d", value or 0.0).hex() for i, value in enumerate(HARD)}
    assert {int(row["metric"]["n"]): bits(row["value"][1]) for row in rows} == want, rows
    at = rows[0]["value"][0]
    ranged = json.loads(ask("query", "range", "-o", "json", f"--start={at:.0f}", f"--end={at + 1:.0f}", "--step=1s", url, 'pushed{n="7"}'))
    assert bits(ranged[0]["values"][-1][1]) == bits(2.0**63), ranged
    assert len(ask("query", "series", '--match=pushed{n=~"[0-4]"}', url).splitlines()) == 5
    assert ask("query", "labels", url, "n").split() == [str(i) for i in range(len(HARD))]
    wrong = subprocess.run([tool, "query", "instant", url, "sum("], capture_output=True, text=True)
    assert wrong.returncode != 0 and "parse error" in wrong.stderr, wrong
    return f"promtool: {len(rows)} values pushed and read"


def python_reader(server):
    """prometheus-api-client."""
    package("prometheus_api_client")
    from datetime import datetime, timezone

    from prometheus_api_client import PrometheusConnect

    client = PrometheusConnect(url=server.url)
    assert client.check_prometheus_connection()
    assert "encoded" in client.all_metrics()
    instant = client.custom_query("encoded[100y]", params={"time": BEGIN / 1000 + 60})
    want = [struct.pack(">d", value).hex() for value in HARD]
    assert len(instant) == 10 and all([bits(v) for _, v in one["values"]] == want for one in instant), instant[:1]
    at = lambda seconds: datetime.fromtimestamp(BEGIN / 1000 + seconds, timezone.utc)
    ranged = client.custom_query_range('encoded{n="1"}', start_time=at(0), end_time=at(len(HARD) - 1), step="1")
    assert [bits(v) for _, v in ranged[0]["values"]] == want, ranged
    labels = client.get_label_values("text")
    assert labels == [TEXT], labels
    return "prometheus-api-client"


def node_reader(server, place):
    """prometheus-query for Node."""
    node = program("node")
    modules = VENV.parent / "node"
    if not (modules / "node_modules" / "prometheus-query").is_dir():
        raise Skipped("prometheus-query for Node not found")
    script = modules / "prometheus_query.mjs"
    script.write_text(f'''import {{ PrometheusDriver }} from "prometheus-query";
const client = new PrometheusDriver({{ endpoint: "{server.url}" }});
const instant = await client.instantQuery('encoded{{n="1"}}', {BEGIN} + 9000);
const range = await client.rangeQuery('encoded{{n="1"}}', {BEGIN}, {BEGIN} + 9000, 1);
const names = await client.labelValues("__name__");
console.log(JSON.stringify({{
  text: instant.result[0].metric.labels.text, at: instant.result[0].value.time.getTime(), value: instant.result[0].value.value,
  range: range.result[0].values.map((v) => [v.time.getTime(), String(Object.is(v.value, -0) ? "-0" : v.value)]), names,
}}));
''')
    done = subprocess.run([node, script], capture_output=True, text=True, timeout=60, cwd=modules)
    script.unlink()
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert got["text"] == TEXT and got["at"] == BEGIN + 9000 and got["value"] == HARD[9], got
    assert "encoded" in got["names"], got
    # The client reads numbers with parseFloat, which takes "+Inf" for NaN.
    spelled = {"Infinity": "inf", "-Infinity": "-inf", "NaN": "inf"}
    values = [bits(spelled.get(text, text)) for _, text in got["range"]]
    signless = lambda hexes: [h for i, h in enumerate(hexes) if i not in (2, 3)]
    assert signless(values) == signless([struct.pack(">d", value).hex() for value in HARD]), got["range"]
    assert [at for at, _ in got["range"]] == [BEGIN + 1000 * i for i in range(len(HARD))], got["range"]
    return "prometheus-query"
