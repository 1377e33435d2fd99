"""pyarrow, DuckDB and Polars read the files of a merged folder and agree with SQL, in both layouts of metrics."""
import math
import random

import remote_write
from harness import Tidelake, eventually, folder, package

BEGIN = 1_767_225_600
METRICS = ["requests_total", "temperature", "queue_length"]


def run(options):
    return "; ".join(f"{layout}: {read_by_others(options, layout)}" for layout in ("plain", "decimal"))


def read_by_others(options, layout):
    duckdb, arrow, polars = package("duckdb"), package("pyarrow"), package("polars")
    import pyarrow.compute
    import pyarrow.parquet

    chance = random.Random(7)
    flags = ["--gc-grace-ms", "2001", "--query-timeout-ms", "2000", "--time-travel-window-ms", "0", "--value-layout", layout]
    with folder() as place, Tidelake(options.bin, place, more=flags) as server:
        for part in range(3):
            lines = []
            for i in range(2000):
                t = (BEGIN + chance.randrange(0, 3 * 86400)) * 10**9
                lines.append(f"cpu,host=h{i % 9},dc=d{i % 3} usage={chance.random() * 100:.6f},n={i + part}i {t}")
            server.lines("\n".join(lines))
            # Overwritten points: files before merging may hold both.
            server.lines("\n".join(f"cpu,host=h{i} usage={part} {BEGIN * 10**9}" for i in range(9)))
            send_metrics(server, chance, part)
            server.post("/admin/flush")
        server.post("/admin/compact")
        want = server.sql("SELECT count(*) AS c, sum(usage) AS s, min(usage) AS lo, max(usage) AS hi, count(n) AS n FROM cpu")[0]
        by_host = server.sql("SELECT host, count(*) AS c, max(usage) AS hi FROM cpu GROUP BY host ORDER BY host")
        days = server.sql("SELECT DISTINCT date_trunc('day', time) AS d FROM cpu")
        # With little grace and no way back, what was replaced goes at one of the compactor's next looks: wait until one file a day is left.
        found = lambda: sorted(p for p in server.data.glob("data/default/cpu/*/*.parquet") if not p.name.endswith(".series.parquet"))
        eventually("one file per day", lambda: len(found()) == len(days), 60)
        files = [str(path) for path in found()]

        table = arrow.concat_tables([arrow.parquet.ParquetFile(path).read() for path in files], promote_options="permissive")
        usage = table["usage"].to_pylist()
        got = {"c": len(usage), "s": sum(usage), "lo": min(usage), "hi": max(usage), "n": table["n"].length() - table["n"].null_count}
        same(want, got, "pyarrow")
        rows = duckdb.sql(f"SELECT count(*), sum(usage), min(usage), max(usage), count(n) FROM read_parquet({files})").fetchall()[0]
        same(want, dict(zip(["c", "s", "lo", "hi", "n"], rows)), "DuckDB")
        frame = polars.scan_parquet(files)
        n = polars.col("n").count()
        same(want, frame.select(*aggregates(polars, "usage"), n=n).collect().to_dicts()[0], "Polars")
        got = frame.group_by("host").agg(c=polars.len(), hi=polars.col("usage").max()).sort("host").collect()
        assert got.with_columns(polars.col("host").cast(str)).to_dicts() == by_host
        query = f"SELECT host, count(*), max(usage) FROM read_parquet({files}) GROUP BY host ORDER BY host"
        assert [dict(zip(["host", "c", "hi"], row)) for row in duckdb.sql(query).fetchall()] == by_host
        metrics = check_metrics(server, layout, duckdb, arrow, polars)
        return f"{want['c']:,} rows of a wide table in {len(files)} files; {metrics}"


def send_metrics(server, chance, part):
    """Three metrics of many series (hundredths, floats of all digits, whole numbers), with samples that a later part overwrites,
    infinities and NaN."""
    series = []
    for name, digits in zip(METRICS, (2, 20, 0)):
        for i in range(20):
            times = sorted(chance.sample(range(2 * 86_400), 50))
            samples = [((BEGIN + t) * 1000 + i, round(chance.gauss(0, 1000), digits)) for t in times]
            samples.append(((BEGIN + 2 * 86_400) * 1000, float(part)))
            series.append(({"__name__": name, "host": f"h{i}", "dc": f"d{i % 3}"}, samples))
    odd = [(BEGIN * 1000 + part, value) for part, value in enumerate([math.inf, -math.inf, math.nan, -0.0])]
    series.append(({"__name__": "odd_values"}, odd))
    remote_write.send(server.url, series)


def check_metrics(server, layout, duckdb, arrow, polars):
    found = lambda: sorted(p for p in server.data.glob("data/default/__metrics__/*/*.parquet") if not p.name.endswith(".series.parquet"))
    # Two days and the midnight after them.
    eventually("one file per day of metrics", lambda: len(found()) == 3)
    files = [str(path) for path in found()]
    index = [path.removesuffix(".parquet") + ".series.parquet" for path in files]
    table = arrow.concat_tables([arrow.parquet.ParquetFile(path).read() for path in files])
    rows = f"(SELECT * FROM read_parquet({files}))"
    frame = polars.scan_parquet(files)
    splits = 0
    if layout == "decimal":
        # What the README says of the decimal layout, in the words of each.
        splits = table.num_rows - table["mantissa"].null_count
        assert 0 < splits < table.num_rows, f"{splits} of {table.num_rows} values are split"
        compute = arrow.compute
        split = compute.divide(compute.cast(table["mantissa"], "double"), compute.power(10.0, compute.cast(table["scale"], "double")))
        table = table.set_column(table.column_names.index("value"), "value", compute.coalesce(table["value"], split))
        rows = f"(SELECT * REPLACE (coalesce(value, mantissa / pow(10, scale)) AS value) FROM read_parquet({files}))"
        split = polars.col("mantissa") / polars.lit(10.0).pow(polars.col("scale"))
        frame = frame.with_columns(value=polars.coalesce("value", split))
    names, values = table["metric"].to_pylist(), table["value"].to_pylist()
    assert set(names) == {*METRICS, "odd_values"}, set(names)
    metric = polars.col("metric").cast(str)
    by_metric = frame.group_by(metric).agg(*aggregates(polars, "value")).collect()
    by_metric = {row.pop("metric"): row for row in by_metric.to_dicts()}
    for name in METRICS:
        want = server.sql(f"SELECT count(*) AS c, sum(value) AS s, min(value) AS lo, max(value) AS hi FROM metrics.{name}")[0]
        usage = [value for metric, value in zip(names, values) if metric == name]
        same(want, {"c": len(usage), "s": math.fsum(usage), "lo": min(usage), "hi": max(usage)}, f"pyarrow, {name}")
        # Every bit of every value: the texts of SQL's answers are exact.
        exact = [row["value"] for row in server.sql(f"SELECT value FROM metrics.{name} ORDER BY value")]
        assert sorted(usage) == exact, f"pyarrow, {name}"
        got = duckdb.sql(f"SELECT value FROM {rows} WHERE metric = '{name}' ORDER BY value").fetchall()
        assert [value for value, in got] == exact, f"DuckDB, {name}"
        assert frame.filter(metric == name).select("value").collect()["value"].sort().to_list() == exact, f"Polars, {name}"
        query = f"SELECT count(*), sum(value), min(value), max(value) FROM {rows} WHERE metric = '{name}'"
        same(want, dict(zip(["c", "s", "lo", "hi"], duckdb.sql(query).fetchall()[0])), f"DuckDB, {name}")
        same(want, by_metric[name], f"Polars, {name}")
        # Labels lie once per series in the index beside the samples.
        labels = f"SELECT DISTINCT series_id, labels['host'] AS host FROM read_parquet({index})"
        query = f"SELECT host, count(*), max(value) FROM {rows} JOIN ({labels}) USING (series_id) WHERE metric = '{name}' GROUP BY 1 ORDER BY 1"
        by_host = server.sql(f"SELECT host, count(*) AS c, max(value) AS hi FROM metrics.{name} GROUP BY host ORDER BY host")
        assert [dict(zip(["host", "c", "hi"], row)) for row in duckdb.sql(query).fetchall()] == by_host, name
    odd = [str(value) for metric, value in zip(names, values) if metric == "odd_values"]
    assert odd == ["inf", "-inf", "nan", "-0.0"], odd
    assert server.sql("SELECT count(*) AS c FROM metrics.odd_values") == [{"c": 4}]
    return f"{len(values):,} samples of {len(METRICS) + 1} metrics in {len(files)} files" + (f", {splits:,} of them split" if splits else "")


def aggregates(polars, column):
    column = polars.col(column)
    return [polars.len().alias("c"), column.sum().alias("s"), column.min().alias("lo"), column.max().alias("hi")]


def same(want, got, who):
    for key, value in want.items():
        # Sums of floats depend on the order of adding.
        assert abs(got[key] - value) <= 1e-9 * max(1, abs(value)), f"{who}: {key} is {got[key]}, SQL says {value}"
