"""A real Prometheus sends what it scrapes; both must tell the same, although Tidelake was killed in between."""
import math
import signal
import time
from pathlib import Path

from harness import Process, Tidelake, eventually, folder, free_port, program, prometheus_api, request

# Each must be answered alike at one time and over a range. No window reaches back to the first scrape: how a rate is
# extrapolated to where a counter began changed with Prometheus 3, and Debian has 2.42.
QUERIES = """
up
scrape_samples_scraped
rate(prometheus_http_requests_total[30s])
sum by (handler) (rate(prometheus_http_requests_total[30s]))
sum without (handler, code) (rate(prometheus_http_requests_total[30s]))
irate(process_cpu_seconds_total[15s])
increase(node_cpu_seconds_total[20s])
sum by (mode) (irate(node_cpu_seconds_total[20s]))
100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[20s])))
delta(node_memory_MemFree_bytes[20s])
deriv(node_memory_MemFree_bytes[20s])
predict_linear(node_memory_MemFree_bytes[20s], 60)
avg_over_time(node_load1[20s])
min_over_time(go_goroutines[20s])
max_over_time(go_goroutines[20s])
stddev_over_time(go_memstats_alloc_bytes[20s])
quantile_over_time(0.9, go_memstats_alloc_bytes[20s])
count_over_time(up[15s])
changes(go_goroutines[20s])
resets(process_cpu_seconds_total[20s])
topk(3, sum by (__name__) ({__name__=~"go_memstats_.*_bytes"}))
bottomk(2, go_memstats_heap_inuse_bytes)
quantile(0.5, scrape_duration_seconds)
count by (job) ({__name__=~"node_.+"})
count_values("v", up)
stddev by (job) (scrape_duration_seconds)
group by (job) (up)
node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes
node_memory_MemAvailable_bytes / on (instance, job) node_memory_MemTotal_bytes > bool 0.1
node_load1 * on (instance) group_left (nodename) node_uname_info
up and on (instance) go_goroutines
up unless on (job) node_load1
node_load1 or up
histogram_quantile(0.9, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[30s])))
histogram_quantile(0.5, sum by (le, handler) (rate(prometheus_http_response_size_bytes_bucket[30s])))
max_over_time(rate(process_cpu_seconds_total[15s])[20s:5s])
avg_over_time(sum(up)[15s:3s])
node_load1 offset 10s
rate(process_cpu_seconds_total[15s] offset 7s)
process_start_time_seconds @ end()
label_replace(up, "host", "$1", "instance", "(.*):.*")
label_join(up, "both", "/", "job", "instance")
absent(nonexistent{job="x"})
absent_over_time(nonexistent[10s])
ceil(node_load1) + floor(node_load5) - round(node_load15, 0.1)
clamp(node_load1, 0.1, 0.5)
timestamp(up)
sort_desc(scrape_samples_scraped)
{__name__=~"process_(cpu_seconds_total|open_fds)", job!="node"}
scalar(sum(up)) * vector(2)
""".strip().splitlines()

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- {{job_name: prometheus, static_configs: [{{targets: ["127.0.0.1:{own}"]}}]}}
- {{job_name: node, static_configs: [{{targets: ["127.0.0.1:{node}"]}}]}}
- {{job_name: tidelake, static_configs: [{{targets: ["127.0.0.1:{tidelake}"]}}]}}
remote_write:
- url: http://127.0.0.1:{tidelake}/api/v1/write
  queue_config: {{batch_send_deadline: 500ms, min_backoff: 30ms, max_backoff: 500ms}}
"""


def run(options):
    prometheus, exporter = program("prometheus"), program("prometheus-node-exporter")
    seconds = max(60, options.prometheus_seconds)
    own, node, port = free_port(), free_port(), free_port()
    reference = f"http://127.0.0.1:{own}"
    with folder() as place:
        config = Path(place) / "prometheus.yml"
        config.write_text(CONFIG.format(own=own, node=node, tidelake=port))
        node_command = [exporter, f"--web.listen-address=127.0.0.1:{node}"]
        command = [prometheus, f"--config.file={config}", f"--storage.tsdb.path={place}/tsdb", f"--web.listen-address=127.0.0.1:{own}"]
        server = Tidelake(options.bin, place, port=port)
        try:
            with Process(node_command, Path(place) / "node.log"), Process(command, Path(place) / "prometheus.log"):
                eventually("Prometheus ready", lambda: request(f"{reference}/-/ready")[0] == 200)
                began = time.time()
                time.sleep(seconds / 2)
                server.stop(signal.SIGKILL)
                time.sleep(2)
                server = Tidelake(options.bin, place, port=port)
                time.sleep(max(0, began + seconds - time.time()))
                # A whole second in the past, so that all of it was sent.
                end = math.floor(time.time()) - 1
                sent = lambda: latest(server.url) >= end + 2
                eventually("all samples sent", sent, 60)
                return compare(reference, server.url, math.ceil(began) + 5, end)
        finally:
            server.stop()


def latest(url):
    found = prometheus_api(url, "query", query="min(timestamp(up))", time=time.time())["result"]
    return float(found[0]["value"][1]) if found else 0


def compare(reference, subject, begin, end):
    window = end - begin
    names = [prometheus_api(url, "label/__name__/values", start=begin, end=end) for url in (reference, subject)]
    assert names[0] == names[1], f"metrics on one side only: {sorted(set(names[0]) ^ set(names[1]))[:5]}"
    assert len(names[0]) > 300, f"only {len(names[0])} metrics were scraped"
    samples = 0
    for name in names[0]:
        query = f'sum(count_over_time({{__name__="{name}"}}[{window}s]))'
        want, got = (series(prometheus_api(url, "query", query=query, time=end)) for url in (reference, subject))
        differ(query, want, got)
        samples += sum(int(values[0][1]) for values in want.values())

    filled = 0
    for query in QUERIES:
        for path, params in (
            ("query", {"time": end - 3}),
            ("query_range", {"start": begin + 40, "end": end, "step": 5}),
        ):
            want, got = (series(prometheus_api(url, path, query=query, **params)) for url in (reference, subject))
            filled += bool(want)
            differ(f"{path} {query}", want, got)
    assert filled >= 1.5 * len(QUERIES), f"only {filled} of {2 * len(QUERIES)} answers had anything in them"
    return f"{len(names[0])} metrics, {samples:,} samples in {window} s alike; {len(QUERIES)} queries, {filled} of {2 * len(QUERIES)} answers not empty, all alike"


def series(data):
    """{labels: [(time, value)]}"""
    result = data["result"]
    if data["resultType"] == "scalar":
        result = [{"metric": {}, "value": result}]
    return {tuple(sorted(s["metric"].items())): s.get("values") or [s["value"]] for s in result}


def differ(what, want, got):
    only = set(want) ^ set(got)
    assert not only, f"{what}: on one side only: {sorted(only)[:3]}"
    for labels, values in want.items():
        assert len(values) == len(got[labels]), f"{what} {labels}: {len(values)} points against {len(got[labels])}"
        for (t1, v1), (t2, v2) in zip(values, got[labels]):
            a, b = float(v1), float(v2)
            close = a == b or (a != a and b != b) or abs(a - b) <= 1e-9 * max(abs(a), abs(b))
            assert t1 == t2 and close, f"{what} {labels}: {v1} at {t1} against {v2} at {t2}"
