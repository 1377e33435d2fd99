"""A newer process beside an older one over one folder: the older one goes on as if it were alone, and nothing that either
acknowledged is lost when the newer ones take over. Needs the program of the release before (TIDELAKE_PREVIOUS)."""
import os
from pathlib import Path

from harness import Skipped, Tidelake, eventually, folder, prometheus_api

BEGIN = 1_790_000_000


def node(binary, place, name):
    where = Path(place) / name
    where.mkdir(exist_ok=True)
    return Tidelake(binary, where, ["--data-dir", Path(place) / "store"], None, ["--node", name, "--pg-listen", ""])


def total(server):
    (row,) = server.sql("SELECT count(*) AS n, sum(v) AS s FROM m")
    return row["n"], row["s"]


def run(options):
    previous = os.environ.get("TIDELAKE_PREVIOUS")
    if not previous or not os.access(previous, os.X_OK):
        raise Skipped("the release before not found")
    with folder() as place:
        with node(previous, place, "old") as old:
            for i in range(20):
                old.lines(f"m,host=h{i} v={i} {BEGIN * 10**9}")
            with node(options.bin, place, "new") as new:
                for i in range(20, 40):
                    new.lines(f"m,host=h{i} v={i} {BEGIN * 10**9}")
                # Each sees its own rows, and of the other's what is in segments.
                assert total(new)[0] >= 20, total(new)
                old.post("/admin/flush")
                new.post("/admin/flush")
                new.post("/admin/compact")
                for server in (old, new):
                    eventually(f"all rows at {server.data}", lambda: total(server) == (40, 780.0), 30)
                # A later write of the newer one counts, by the order of flushes.
                new.lines(f"m,host=h0 v=100 {BEGIN * 10**9}")
                new.post("/admin/flush")
                old.post("/admin/compact")
                eventually("the newer value at the older process", lambda: total(old) == (40, 880.0), 30)
            assert old.stop() == 0, old.tail()
        # Then it is upgraded in its place.
        with node(options.bin, place, "old") as upgraded, node(options.bin, place, "new") as new:
            upgraded.lines(f"m,host=h1 v=201 {BEGIN * 10**9}")
            assert total(new) == (40, 1080.0), total(new)
            nodes = prometheus_api(new.url, "status/cluster")["nodes"]
            assert [n["state"] for n in nodes] == ["alive", "alive"], nodes
            upgraded.post("/admin/flush")
            new.lines(f"m,host=h1 v=301 {BEGIN * 10**9}")
            for server in (upgraded, new):
                assert total(server) == (40, 1180.0), total(server)
    return "40 rows of both, and the last write of each counts, beside and after"
