"""A real Prometheus sends what it scrapes; both must tell the same, although Tidelake was killed in between."""
import json
import math
import signal
import time
import urllib.parse
from pathlib import Path

from harness import Process, Tidelake, eventually, folder, free_port, program, prometheus_api, request

# Each must be answered alike at one time and over a range. Two things changed with Prometheus 3, which Tidelake follows
# and Debian 12's 2.42 does not, and are kept out of the way: a sample on the very edge of a window (see `quiet_fraction`; INNER
# is a window within a subquery, whose steps are at whole seconds), and how a rate is extrapolated to where a counter began:
# no window reaches back to the first scrape, and no rate is asked of Tidelake itself, which begins anew in the middle.
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
max_over_time(rate(process_cpu_seconds_total{job!="tidelake"}[INNER])[20s:5s])
avg_over_time(sum(up)[15s:3s])
node_load1 offset 10s
rate(process_cpu_seconds_total{job!="tidelake"}[15s] offset 7s)
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
sum by (job) (count_over_time(up[20s:1s]))
last_over_time(up[10s])
present_over_time(node_load1[10s])
sum_over_time(up{job="tidelake"}[30s])
sort(scrape_samples_scraped)
""".strip().splitlines()

# Each must be refused alike.
REFUSED = """
sum by (__name__) (count_over_time({__name__=~"scrape_.+"}[60s]))
node_load1 * on (job) group_left () scrape_duration_seconds / on () up
rate(up)
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
                time.sleep(seconds / 4)
                # Of what is compared, some is in merged files, some in fresh ones, some only in the log and in memory.
                server.post("/admin/flush")
                time.sleep(seconds / 4)
                server.stop(signal.SIGKILL)
                time.sleep(2)
                server = Tidelake(options.bin, place, port=port)
                time.sleep(max(0, began + seconds * 3 / 4 - time.time()))
                server.post("/admin/flush")
                server.post("/admin/compact")
                time.sleep(max(0, began + seconds - time.time()))
                # A whole second in the past, so that all of it was scraped.
                end = math.floor(time.time()) - 1
                eventually("all samples sent", lambda: latest(server.url) >= end + 2)
                return compare(reference, server.url, math.ceil(began) + 5, end)
        finally:
            server.stop()


def latest(url):
    found = prometheus_api(url, "query", query="min(timestamp(up))", time=time.time())["result"]
    return float(found[0]["value"][1]) if found else 0


def compare(reference, subject, begin, end):
    want = raw(reference, begin, end)
    # Prometheus sends by several queues, of which some may still be behind.
    eventually("all samples there", lambda: complete(want, raw(subject, begin, end)))
    names = sorted({dict(labels)["__name__"] for labels in want})
    assert len(names) > 300, f"only {len(names)} metrics were scraped"
    known = prometheus_api(subject, "label/__name__/values", start=begin, end=end)
    assert set(names) <= set(known), f"not among the names: {sorted(set(names) - set(known))[:5]}"
    failed, retried = (remote_storage(reference, what) for what in ("failed", "retried"))
    assert failed == 0, f"Prometheus gave up on {failed:.0f} samples"
    assert retried > 0, "Prometheus did not notice the kill"

    fraction = quiet_fraction(want)
    for name in names:
        # All names at once would be several series of one label set, which is an error.
        query = f'sum by (__name__) (count_over_time({{__name__="{name}"}}[{end - begin - 3}s]))'
        alike("query", query, reference, subject, time=end - 2 + fraction)
    filled = {"query": 0, "query_range": 0}
    for query in QUERIES:
        query = query.replace("INNER", f"{16000 - round(fraction * 1000)}ms")
        filled["query"] += alike("query", query, reference, subject, time=end - 3 + fraction)
        filled["query_range"] += alike("query_range", query, reference, subject, start=begin + 40 + fraction, end=end - 1 + fraction, step=5)
    for query in REFUSED:
        answers = [refusal(url, query, end - 3 + fraction) for url in (reference, subject)]
        assert answers[0] == answers[1], f"{query}: {answers[0]} against {answers[1]}"
    for path, count in filled.items():
        assert count >= 40, f"only {count} of {len(QUERIES)} answers of {path} had anything in them"
    samples = sum(len(points) for points in want.values())
    return (
        f"{len(names)} metrics, {len(want):,} series, {samples:,} samples in {end - begin} s alike ({retried:,.0f} sent again); {len(QUERIES)} queries alike, "
        f"of which not empty {filled['query']} at one time and {filled['query_range']} over a range"
    )


def refusal(url, query, time):
    """The status and the kind of error of a query that must fail."""
    status, text = request(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query, 'time': time})}")
    answer = json.loads(text)
    assert answer["status"] == "error", f"{query} must not be answered, but {url} says {text}"
    return status, answer["errorType"]


def raw(url, begin, end):
    """{labels: [(time, value)]} of every sample after `begin`, the values as they are written."""
    found = {}
    for start in range(begin, end, 10):
        until = min(start + 10, end)
        data = prometheus_api(url, "query", query=f'{{__name__=~".+"}}[{until - start}s]', time=until)
        for labels, points in series(data).items():
            found.setdefault(labels, []).extend((t, v) for t, v in points if t > start)
    return {labels: points for labels, points in found.items() if points}


def complete(want, got):
    """Whether everything is there; a failure at once for what waiting cannot mend."""
    missing = 0
    for labels in want.keys() | got.keys():
        wanted, there = set(want.get(labels, ())), got.get(labels, [])
        if len(set(there)) != len(there) or not wanted.issuperset(there):
            raise RuntimeError(f"{labels}: {sorted(set(there) - wanted)[:3]} of {len(there)} points were never scraped, or are there twice")
        missing += len(wanted) - len(there)
    assert not missing, f"{missing} samples of {sum(map(len, want.values()))} are missing"
    return True


def remote_storage(reference, what):
    found = prometheus_api(reference, "query", query=f"sum(prometheus_remote_storage_samples_{what}_total)", time=time.time())["result"]
    return float(found[0]["value"][1])


def quiet_fraction(samples):
    """The part of a second that is farthest from that of any sample: a window with such an edge has no sample on it."""
    taken = {round(t * 1000) % 1000 for points in samples.values() for t, _ in points}
    distance = lambda ms: min((min(abs(ms - other), 1000 - abs(ms - other)) for other in taken))
    best = max(range(100, 901), key=distance)
    assert distance(best) > 0, "there is a sample in every millisecond"
    return best / 1000


def alike(path, query, reference, subject, **params):
    """Fails if the two do not answer alike; whether there is anything in the answer."""
    answers = [prometheus_api(url, path, query=query, **params) for url in (reference, subject)]
    assert answers[0]["resultType"] == answers[1]["resultType"], f"{query}: {answers[1]['resultType']}"
    want, got = map(series, answers)
    differ(f"{path} {query}", want, got)
    if path == "query" and query.startswith("sort"):
        assert list(want) == list(got), f"{query}: {list(got)} is another order than {list(want)}"
    return bool(want)


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
