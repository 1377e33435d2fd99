"""Senders meet a full disk, a store that is away and a limit that lets nothing in: what they sent meanwhile arrives afterwards, all of it.
Prometheus, vmagent, `influxdb-client` and the OpenTelemetry SDK send all the time, each with the retries that it has."""
import json
import math
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import prometheus as prometheus_test
import s3
from harness import Process, Skipped, Tidelake, eventually, folder, free_port, package, program, prometheus_api, request
from remote_write import message, snappy

OUTAGE_SECONDS = 10
SCRAPES = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: prometheus, static_configs: [{{targets: ["127.0.0.1:{own}"]}}]}}]
remote_write:
- url: {url}/db/prom/api/v1/write
  {version}
  queue_config: {{batch_send_deadline: 500ms}}
"""


def run(options):
    done = []
    for trouble in (full_disk, store_away, nothing_let_in):
        try:
            with folder() as place:
                done.append(f"{trouble.__name__.replace('_', ' ')}: {trouble(options, place)}")
        except Skipped as reason:
            print(f"skipped: {reason} (a part of overload)", flush=True)
    assert done, "nothing ran"
    return "; ".join(done)


def full_disk(options, place):
    disk = Path(place) / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode != 0:
        raise Skipped(f"a file system to fill: {mounted.stderr.strip()}")
    ballast = disk / "ballast"

    @contextmanager
    def full():
        with ballast.open("wb") as out:
            try:
                while True:
                    out.write(b"\0" * (1 << 16))
                    out.flush()
            except OSError:
                pass
        try:
            yield
        finally:
            ballast.unlink()

    try:
        with Tidelake(options.bin, place, store=["--data-dir", disk / "db"]) as server:
            return through(place, server, full)
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def store_away(options, place):
    process, endpoint, _ = s3.seaweedfs(place)
    env = {"AWS_ACCESS_KEY_ID": s3.KEY, "AWS_SECRET_ACCESS_KEY": s3.SECRET, "AWS_REGION": "us-east-1"}
    store = ["--store", f"s3://{s3.BUCKET}/overload", "--s3-endpoint", endpoint, "--s3-allow-http"]

    @contextmanager
    def stopped():
        # It answers nothing at all: worse than a refusal.
        process.child.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.child.send_signal(signal.SIGCONT)

    with process, Tidelake(options.bin, place, store=store, env=env) as server:
        return through(place, server, stopped)


def nothing_let_in(options, place):
    with Tidelake(options.bin, place) as server:

        def limit(samples):
            body = json.dumps({"samples_per_second": samples})
            status, text = request(f"{server.url}/api/v3/configure/limits", body, {"Content-Type": "application/json"}, "PUT")
            assert status in (200, 204), (status, text)

        @contextmanager
        def limited():
            limit(0)
            try:
                yield
            finally:
                limit(None)

        return through(place, server, limited)


def through(place, server, trouble):
    """All senders before, in and after the trouble; what each says of what arrived."""
    senders = [Influx(server), OpenTelemetry(server), Prometheus(server, place)]
    try:
        senders.append(Vmagent(server, place))
    except Skipped as reason:
        print(f"skipped: {reason} (a sender of overload)", flush=True)
    try:
        time.sleep(4)
        before = refusals(server)
        with trouble():
            time.sleep(OUTAGE_SECONDS)
        time.sleep(4)
        for sender in senders:
            sender.finish()
        refused = refusals(server) - before
        told = [sender.check() for sender in senders]
        assert refused > 0, "nothing was refused: there was no trouble"
        return f"{', '.join(told)} ({refused:.0f} requests refused meanwhile)"
    finally:
        for sender in senders:
            sender.stop()


def refusals(server):
    lines = request(f"{server.url}/metrics")[1].splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("tidelake_write_requests_refused_total"))


class Sender:
    """Calls `send(i)` all the time in a thread of its own."""

    every = 0.05

    def begin(self):
        self.over, self.sent = threading.Event(), 0
        self.thread = threading.Thread(target=self.go_on, daemon=True)
        self.thread.start()

    def go_on(self):
        while not self.over.wait(self.every):
            self.send(self.sent)
            self.sent += 1

    def finish(self):
        self.over.set()
        self.thread.join(120)
        assert not self.thread.is_alive(), f"{type(self).__name__} still sends"

    def stop(self):
        self.over.set()


class Influx(Sender):
    """`influxdb-client`, in batches, with its retries."""

    def __init__(self, server):
        influx = package("influxdb_client")
        self.server, self.failures = server, []
        self.client = influx.InfluxDBClient(url=server.url, token="any", org="any")
        options = influx.WriteOptions(batch_size=20, flush_interval=200, retry_interval=500, max_retry_delay=2_000, max_retries=50, max_retry_time=180_000)
        failed = lambda conf, data, error: self.failures.append(error)
        self.api = self.client.write_api(write_options=options, error_callback=failed)
        self.begin()

    def send(self, i):
        self.api.write("v2", record=f"sent n={i}i {(i + 1) * 10**9}")

    def finish(self):
        super().finish()
        self.api.close()
        self.client.close()

    def check(self):
        assert not self.failures, self.failures
        body = json.dumps({"db": "v2", "q": "SELECT n FROM sent ORDER BY time", "format": "json"})
        status, text = request(f"{self.server.url}/api/v3/query_sql", body, {"Content-Type": "application/json"})
        assert status == 200, text
        got = [row["n"] for row in json.loads(text)]
        assert got == list(range(self.sent)), f"{len(got)} of {self.sent} points, the first missing {sorted(set(range(self.sent)) - set(got))[:5]}"
        return f"influxdb-client {len(got)} points"


class OpenTelemetry(Sender):
    """The SDK over HTTP: every collection is to arrive."""

    every = 0.5

    def __init__(self, server):
        package("opentelemetry.sdk")
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult

        self.server, self.success, self.results = server, MetricExportResult.SUCCESS, []
        self.exporter = OTLPMetricExporter(endpoint=f"{server.url}/v1/metrics", timeout=90, headers={"X-Scope-OrgID": "otel"})
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)
        self.gauge = self.provider.get_meter("overload").create_gauge("turn")
        self.want = {}
        self.begin()

    def send(self, i):
        self.gauge.set(i)
        data = self.reader.get_metrics_data()
        point = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
        self.want[point.time_unix_nano // 10**6] = float(i)
        self.results.append(self.exporter.export(data, timeout_millis=90_000))

    def check(self):
        assert set(self.results) == {self.success}, self.results
        found = prometheus_api(f"{self.server.url}/db/otel", "query", query="turn[1h]", time=time.time() + 5)["result"]
        got = {round(t * 1000): float(v) for t, v in found[0]["values"]}
        assert got == self.want, f"{len(got)} of {len(self.want)} collections"
        return f"OpenTelemetry {len(got)} collections"


class Vmagent(Sender):
    """vmagent, which keeps on disk what it cannot send."""

    def __init__(self, server, place):
        agent, port = program("vmagent"), free_port()
        self.server, self.url = server, f"http://127.0.0.1:{port}"
        command = [agent, f"-httpListenAddr=127.0.0.1:{port}", f"-remoteWrite.url={server.url}/db/agent/api/v1/write",
                   f"-remoteWrite.tmpDataPath={place}/vmagent", "-remoteWrite.flushInterval=200ms"]
        self.process = Process(command, f"{place}/vmagent.log")
        eventually("vmagent ready", lambda: request(f"{self.url}/health")[0] == 200)
        self.begin_ms = 1_000 * int(time.time())
        self.begin()

    def send(self, i):
        body = message([({"__name__": "sent"}, [(self.begin_ms + i, float(i))])])
        status, text = request(f"{self.url}/api/v1/write", snappy(body), {"Content-Encoding": "snappy"})
        assert status == 204, (status, text)

    def check(self):
        def arrived():
            end = self.begin_ms / 1000 + self.sent / 1000 + 1
            found = prometheus_api(f"{self.server.url}/db/agent", "query", query="sent[1h]", time=end)["result"]
            got = [float(v) for _, v in found[0]["values"]]
            assert got == [float(i) for i in range(self.sent)], f"{len(got)} of {self.sent} samples"
            return True

        eventually("vmagent sending all", arrived, 120)
        return f"vmagent {self.sent} samples"

    def stop(self):
        super().stop()
        self.process.stop(signal.SIGKILL)


class Prometheus:
    """A Prometheus that scrapes itself."""

    def __init__(self, server, place):
        binary, port = program("prometheus"), free_port()
        self.server, self.url = server, f"http://127.0.0.1:{port}"
        config = Path(place) / "prometheus.yml"
        said = subprocess.run([binary, "--version"], capture_output=True, text=True)
        # 2.0, if it knows that.
        is_new = "version 2." not in said.stdout + said.stderr
        version = "protobuf_message: io.prometheus.write.v2.Request" if is_new else ""
        config.write_text(SCRAPES.format(own=port, url=server.url, version=version))
        command = [binary, f"--config.file={config}", f"--storage.tsdb.path={place}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
        self.process = Process(command, f"{place}/prometheus.log")
        eventually("Prometheus ready", lambda: request(f"{self.url}/-/ready")[0] == 200)
        self.begin = math.ceil(time.time()) + 1

    def finish(self):
        self.end = math.floor(time.time()) - 1

    def check(self):
        want = prometheus_test.raw(self.url, self.begin, self.end)
        subject = f"{self.server.url}/db/prom"
        eventually("Prometheus sending all", lambda: prometheus_test.complete(want, prometheus_test.raw(subject, self.begin, self.end)), 120)
        failed = prometheus_test.remote_storage(self.url, "failed")
        assert failed == 0, f"Prometheus gave up on {failed:.0f} samples"
        return f"Prometheus {sum(map(len, want.values()))} samples"

    def stop(self):
        self.process.stop(signal.SIGKILL)
