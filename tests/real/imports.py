"""`tidelake import` of what promtool prints of a storage, and of the storage that a Prometheus wrote: all give the same samples."""
import subprocess
import time
from pathlib import Path

from harness import Process, Tidelake, eventually, folder, free_port, program, prometheus_api, request
from remote_read import data
from remote_write import send

TEXT = r"""# TYPE a counter
# HELP a Tells "all" \\ of it.
a_total{u="é",x="q\"b\\n\nl"} 1 1700000000.123
a_total{u="é",x="q\"b\\n\nl"} 2.5 1700000015.123
# TYPE g gauge
g{t="tab	x"} NaN 1700000000
g{t="tab	x"} +Inf 1700000015
g{t="tab	x"} -0.0 1700000030
g{t="tab	x"} 5e-324 1700000045
g{t="tab	x"} 1e+300 1700000060
g{t="tab	x"} -Inf 1700000060.001
# TYPE h histogram
h_bucket{le="1.0"} 3 1700000000
h_bucket{le="+Inf"} 4 1700000000
h_sum 3.3 1700000000
h_count 4 1700000000
# EOF
"""


def series(server, database):
    """Texts of all samples, by series."""
    rows = prometheus_api(f"{server.url}/db/{database}", "query", query='{__name__=~".+"}[1h]', time=1700000100)["result"]
    return {tuple(sorted(row["metric"].items())): row["values"] for row in rows}


def run(options):
    promtool = program("promtool")
    with folder() as place, folder() as work, Tidelake(options.bin, place) as server:
        work = Path(work)
        text = work / "in.om"
        text.write_text(TEXT)

        def tidelake(*words, stdin=None):
            command = [options.bin, "import", "--url", server.url, *map(str, words)]
            done = subprocess.run(command, input=stdin, capture_output=True, timeout=120)
            assert done.returncode == 0, done.stderr.decode()
            return done.stdout.decode()

        def dump(kind):
            return subprocess.run([promtool, "tsdb", kind, str(work / "data")], check=True, capture_output=True, timeout=120).stdout

        tidelake("--database", "text", text)
        want = series(server, "text")
        assert len(want) == 6 and sum(map(len, want.values())) == 12, want
        assert want[(("__name__", "g"), ("t", "tab\tx"))][2][1] == "-0", want

        subprocess.run([promtool, "tsdb", "create-blocks-from", "openmetrics", str(text), str(work / "data")], check=True, capture_output=True, timeout=120)
        (work / "data" / "wal").mkdir(exist_ok=True)  # promtool reads no data without one
        said = tidelake("--database", "dump", "--format", "promtool-dump", "-", stdin=dump("dump"))
        assert "12 lines" in said, said
        assert series(server, "dump") == want, series(server, "dump")
        tidelake("--database", "open", "--format", "promtool-openmetrics", "-", stdin=dump("dump-openmetrics"))
        assert series(server, "open") == want, series(server, "open")

        # The blocks themselves, and the way back.
        said = tidelake("--database", "blocks", work / "data")
        assert "6 series" in said, said
        assert series(server, "blocks") == want, series(server, "blocks")
        back, again = work / "back.om", work / "again"
        command = [options.bin, "export", "--url", server.url, "--database", "blocks", "--match", '{__name__=~".+"}', "-o", back]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        command = [promtool, "tsdb", "create-blocks-from", "openmetrics", back, again]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        (again / "wal").mkdir(exist_ok=True)
        assert subprocess.run([promtool, "tsdb", "dump", again], check=True, capture_output=True, timeout=120).stdout == dump("dump")
        return f"12 samples by 4 ways and back, {snapshot(options, server, work, tidelake)} of a snapshot of a Prometheus"


def snapshot(options, server, work, tidelake):
    """Gaps, stale markers, odd numbers and native histograms that a Prometheus keeps."""
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    config = work / "prometheus.yml"
    config.write_text("global: {}\n")
    command = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={work}/tsdb",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--web.enable-admin-api",
        "--enable-feature=native-histograms",
    ]
    with Process(command, work / "prometheus.log"):
        eventually("Prometheus ready", lambda: request(f"{own}/-/ready")[0] == 200)
        end = int(time.time()) // 60 * 60
        send(own, [(labels, samples) for labels, samples in data(end)[0]])
        status, text = request(f"{own}/api/v1/admin/tsdb/delete_series?match[]=gauge&start={end - 1200}&end={end - 600}", b"", method="POST")
        assert status == 204, text
        status, text = request(f"{own}/api/v1/admin/tsdb/snapshot", b"", method="POST")
        assert status == 200, text
        (taken,) = (work / "tsdb" / "snapshots").iterdir()
        tidelake("--database", "snapshot", taken)
        raw = lambda base: prometheus_api(base, "query", query='{__name__=~".+"}[4h]', time=end)["result"]
        found = {tuple(sorted(row["metric"].items())): row for row in raw(f"{server.url}/db/snapshot")}
        want = {tuple(sorted(row["metric"].items())): row for row in raw(own)}
        assert found.keys() == want.keys(), found.keys() ^ want.keys()
        for labels, row in want.items():
            assert found[labels] == row, (labels, found[labels], row)
        assert any("histograms" in row for row in want.values())
        return sum(len(row.get("values", [])) + len(row.get("histograms", [])) for row in want.values())
