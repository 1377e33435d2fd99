"""pyarrow and DuckDB read the files of a merged folder and agree with SQL."""
import random

from harness import Tidelake, eventually, folder, package

BEGIN = 1_767_225_600


def run(options):
    duckdb, arrow = package("duckdb"), package("pyarrow")
    import pyarrow.parquet

    chance = random.Random(7)
    with folder() as place, Tidelake(options.bin, place, more=["--gc-grace-ms", "0"]) as server:
        for part in range(3):
            lines = []
            for i in range(2000):
                t = (BEGIN + chance.randrange(0, 3 * 86400)) * 10**9
                lines.append(f"cpu,host=h{i % 9},dc=d{i % 3} usage={chance.random() * 100:.6f},n={i + part}i {t}")
            server.lines("\n".join(lines))
            # Overwritten points: files before merging may hold both.
            server.lines("\n".join(f"cpu,host=h{i} usage={part} {BEGIN * 10**9}" for i in range(9)))
            server.post("/admin/flush")
        server.post("/admin/compact")
        want = server.sql("SELECT count(*) AS c, sum(usage) AS s, min(usage) AS lo, max(usage) AS hi, count(n) AS n FROM cpu")[0]
        by_host = server.sql("SELECT host, count(*) AS c, max(usage) AS hi FROM cpu GROUP BY host ORDER BY host")
        days = server.sql("SELECT DISTINCT date_trunc('day', time) AS d FROM cpu")
        # With no grace, what was replaced goes at the compactor's next look: wait until one file a day is left.
        found = lambda: sorted(p for p in server.data.glob("data/default/cpu/*/*.parquet") if not p.name.endswith(".series.parquet"))
        eventually("one file per day", lambda: len(found()) == len(days), 60)
        files = [str(path) for path in found()]

        table = arrow.concat_tables([arrow.parquet.ParquetFile(path).read() for path in files], promote_options="permissive")
        usage = table["usage"].to_pylist()
        got = {"c": len(usage), "s": sum(usage), "lo": min(usage), "hi": max(usage), "n": table["n"].length() - table["n"].null_count}
        same(want, got, "pyarrow")
        rows = duckdb.sql(f"SELECT count(*), sum(usage), min(usage), max(usage), count(n) FROM read_parquet({files})").fetchall()[0]
        same(want, dict(zip(["c", "s", "lo", "hi", "n"], rows)), "DuckDB")
        query = f"SELECT host, count(*), max(usage) FROM read_parquet({files}) GROUP BY host ORDER BY host"
        assert [dict(zip(["host", "c", "hi"], row)) for row in duckdb.sql(query).fetchall()] == by_host
        return f"{want['c']:,} rows in {len(files)} files"


def same(want, got, who):
    for key, value in want.items():
        assert abs(got[key] - value) <= 1e-9 * max(1, abs(value)), f"{who}: {key} is {got[key]}, SQL says {value}"
