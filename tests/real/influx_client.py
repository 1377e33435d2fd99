"""The Python `influxdb-client` writes; SQL and PromQL return what it wrote."""
from harness import Tidelake, folder, package, prometheus_api

BEGIN = 1_767_225_600


def run(options):
    influx = package("influxdb_client")
    from influxdb_client.client.write_api import SYNCHRONOUS

    with folder() as place, Tidelake(options.bin, place) as server:
        with influx.InfluxDBClient(url=server.url, token="any", org="any", enable_gzip=True) as client:
            assert client.ping(), "ping failed"
            with client.write_api(write_options=SYNCHRONOUS) as api:
                for i in range(10):
                    point = influx.Point("room").tag("name", f"r{i % 2}").tag("floor", 'a "b", c=d').field("temperature", 20 + i / 4)
                    point.field("people", i - 5).field("open", i % 3 == 0).field("note", f'she said "{i}"\\ é')
                    api.write("default", record=point.time(BEGIN + i, influx.WritePrecision.S), write_precision=influx.WritePrecision.S)
            failures = []
            failed = lambda conf, data, error: failures.append(error)
            batching = influx.WriteOptions(batch_size=100, flush_interval=200, max_retries=3)
            with client.write_api(write_options=batching, error_callback=failed, retry_callback=failed) as api:
                for i in range(1000):
                    api.write("default", record=f"batch,k=v{i % 5} n={i}i {(BEGIN + i) * 10**9}")
            assert not failures, failures
            refused = None
            with client.write_api(write_options=SYNCHRONOUS) as api:
                try:
                    api.write("default", record=f'room,name=r0 temperature="warm" {BEGIN * 10**9}')
                except influx.rest.ApiException as error:
                    refused = error
            assert refused is not None and refused.status == 400, refused
            assert "temperature" in refused.body and "line 1" in refused.body, refused.body

        buckets(influx, server)
        rows = server.sql("SELECT CAST(time AS BIGINT) AS t, name, floor, temperature, people, open, note FROM room ORDER BY time")
        want = [
            {
                "t": (BEGIN + i) * 10**9,
                "name": f"r{i % 2}",
                "floor": 'a "b", c=d',
                "temperature": 20 + i / 4,
                "people": i - 5,
                "open": i % 3 == 0,
                "note": f'she said "{i}"\\ é',
            }
            for i in range(10)
        ]
        assert rows == want, rows
        assert [type(row["people"]) for row in rows] == [int] * 10, rows
        rows = server.sql("SELECT CAST(time AS BIGINT) AS t, k, n FROM batch ORDER BY time")
        assert rows == [{"t": (BEGIN + i) * 10**9, "k": f"v{i % 5}", "n": i} for i in range(1000)], rows[:3]
        for name, value in (("room_temperature", lambda i: 20 + i / 4), ("room_people", lambda i: i - 5)):
            found = prometheus_api(server.url, "query", query=f"{name}[1h]", time=BEGIN + 9)["result"]
            got = {s["metric"]["name"]: [(t, float(v)) for t, v in s["values"]] for s in found}
            assert got == {f"r{k}": [(BEGIN + i, value(i)) for i in range(k, 10, 2)] for k in range(2)}, got
            assert all(s["metric"] == {"__name__": name, "name": s["metric"]["name"], "floor": 'a "b", c=d'} for s in found), found
        total = prometheus_api(server.url, "query", query="sum(sum_over_time(batch_n[1h]))", time=BEGIN + 1000)["result"]
        assert total[0]["value"][1] == "499500", total
        return "1,010 points"


def buckets(influx, server):
    """Databases as buckets: made, found, kept for a time, dropped."""
    with influx.InfluxDBClient(url=server.url, token="any", org="any") as client:
        api = client.buckets_api()
        rules = influx.BucketRetentionRules(type="expire", every_seconds=7 * 86_400)
        made = api.create_bucket(bucket_name="made", org="any", retention_rules=rules)
        found = api.find_bucket_by_name("made")
        assert found.id == made.id and found.retention_rules[0].every_seconds == 7 * 86_400, found
        found.retention_rules[0].every_seconds = 86_400
        assert api.update_bucket(found).retention_rules[0].every_seconds == 86_400
        assert {"default", "made"} <= {bucket.name for bucket in api.find_buckets().buckets}
        assert api.find_bucket_by_id(made.id).name == "made"
        api.delete_bucket(made)
        assert api.find_bucket_by_name("made") is None
        assert [org.name for org in client.organizations_api().find_organizations(org="any")] == ["any"]
