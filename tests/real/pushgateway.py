"""The Python `prometheus_client` pushes as to a Pushgateway: replaces, adds, deletes; PromQL shows what each push left."""
import time

from harness import Tidelake, folder, package, prometheus_api


def shown(server):
    """Name, labels beside the job, and value of what queries of now see of the job."""
    rows = prometheus_api(server.url, "query", query='{job="batch",__name__!~"push_.*|.*_created"}', time=time.time())["result"]
    labels = lambda metric: ",".join(f"{n}={v}" for n, v in sorted(metric.items()) if n not in ("__name__", "job"))
    return sorted((row["metric"]["__name__"], labels(row["metric"]), float(row["value"][1])) for row in rows)


def run(options):
    client = package("prometheus_client")
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

    with folder() as place, Tidelake(options.bin, place) as server:
        first = CollectorRegistry()
        Gauge("last_success", "Unix time of the last \\ success\nof a job", registry=first).set(1.5)
        done = Counter("done", "Done", ["kind"], registry=first)
        done.labels("a").inc(3)
        done.labels('q"b\\n\né').inc()
        client.push_to_gateway(server.url, job="batch", registry=first)
        assert shown(server) == [
            ("done_total", "kind=a", 3.0),
            ("done_total", 'kind=q"b\\n\né', 1.0),
            ("last_success", "", 1.5),
        ], shown(server)
        metadata = prometheus_api(server.url, "metadata")
        assert metadata["last_success"] == [{"type": "gauge", "help": "Unix time of the last \\ success\nof a job", "unit": ""}], metadata

        # Another group of the job, with a value that only base64 can say in a path.
        second = CollectorRegistry()
        took = Histogram("took_seconds", "Took", buckets=[0.5, 1], registry=second)
        took.observe(0.7)
        client.pushadd_to_gateway(server.url, job="batch", registry=second, grouping_key={"path": "/var/tmp", "empty": ""})
        of_second = [
            ("took_seconds_bucket", "le=+Inf,path=/var/tmp", 1.0),
            ("took_seconds_bucket", "le=0.5,path=/var/tmp", 0.0),
            ("took_seconds_bucket", "le=1.0,path=/var/tmp", 1.0),
            ("took_seconds_count", "path=/var/tmp", 1.0),
            ("took_seconds_sum", "path=/var/tmp", 0.7),
        ]
        assert shown(server)[3:] == of_second, shown(server)

        # Adding replaces what has a pushed name and leaves the rest.
        added = CollectorRegistry()
        Counter("done", "Done", ["kind"], registry=added).labels("b").inc(7)
        client.pushadd_to_gateway(server.url, job="batch", registry=added)
        assert shown(server)[:2] == [("done_total", "kind=b", 7.0), ("last_success", "", 1.5)], shown(server)

        # Pushing replaces the group, and no other one.
        client.push_to_gateway(server.url, job="batch", registry=added)
        assert shown(server) == [("done_total", "kind=b", 7.0), *of_second], shown(server)

        client.delete_from_gateway(server.url, job="batch", grouping_key={"path": "/var/tmp", "empty": ""})
        assert shown(server) == [("done_total", "kind=b", 7.0)], shown(server)
        client.delete_from_gateway(server.url, job="batch")
        assert shown(server) == [], shown(server)
        left = prometheus_api(server.url, "query", query='push_time_seconds{job="batch"}', time=time.time())["result"]
        assert left == [], left
        # The past stays.
        kept = prometheus_api(server.url, "query", query='count_over_time(done_total{kind="b"}[5m])', time=time.time())["result"]
        assert kept[0]["value"][1] == "2", kept
        return "6 pushes and deletes of prometheus_client"
