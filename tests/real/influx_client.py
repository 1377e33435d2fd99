"""The Python `influxdb-client` writes; SQL and PromQL return what it wrote."""
from harness import Tidelake, folder, package, prometheus_api

BEGIN = 1_767_225_600


def run(options):
    influx = package("influxdb_client")
    from influxdb_client.client.write_api import SYNCHRONOUS

    with folder() as place, Tidelake(options.bin, place) as server:
        with influx.InfluxDBClient(url=server.url, token="any", org="any") as client:
            assert client.ping(), "ping failed"
            with client.write_api(write_options=SYNCHRONOUS) as api:
                for i in range(10):
                    point = influx.Point("room").tag("name", f"r{i % 2}").field("temperature", 20 + i / 4).field("people", i)
                    api.write("default", record=point.time(BEGIN + i, influx.WritePrecision.S), write_precision=influx.WritePrecision.S)
            with client.write_api(write_options=influx.WriteOptions(batch_size=100, flush_interval=200)) as api:
                for i in range(1000):
                    api.write("default", record=f"batch,k=v{i % 5} n={i}i {(BEGIN + i) * 10**9}")
            refused = None
            with client.write_api(write_options=SYNCHRONOUS) as api:
                try:
                    api.write("default", record=f'room,name=r0 temperature="warm" {BEGIN * 10**9}')
                except influx.rest.ApiException as error:
                    refused = error
            assert refused is not None and refused.status == 400, refused
            assert "temperature" in refused.body and "line 1" in refused.body, refused.body

        rows = server.sql("SELECT name, temperature, people FROM room ORDER BY time")
        assert rows == [{"name": f"r{i % 2}", "temperature": 20 + i / 4, "people": i} for i in range(10)], rows
        assert server.sql("SELECT count(*) AS c, sum(n) AS s FROM batch") == [{"c": 1000, "s": 499500}]
        found = prometheus_api(server.url, "query", query="room_temperature", time=BEGIN + 9)["result"]
        values = sorted((s["metric"]["name"], s["value"][1]) for s in found)
        assert values == [("r0", "22"), ("r1", "22.25")], values
        total = prometheus_api(server.url, "query", query="sum(sum_over_time(batch_n[1h]))", time=BEGIN + 1000)["result"]
        assert total[0]["value"][1] == "499500", total
        return "1,010 points"
