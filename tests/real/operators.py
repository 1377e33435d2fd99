"""What operators get: metrics that promtool finds well named, and alerts and a dashboard that ask for metrics that are there."""
import json
import re
import subprocess

from harness import ROOT, Tidelake, folder, program, prometheus_api, request

DEPLOY = ROOT / "deploy"
NAME = re.compile(r"\b((?:tidelake|process)_[a-z_]+)\b")


def run(options):
    promtool = program("promtool")

    def check(*words, cwd=None, input=None):
        done = subprocess.run([promtool, *map(str, words)], capture_output=True, text=True, input=input, cwd=cwd)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    rules = DEPLOY / "prometheus" / "alerts.yml"
    check("check", "rules", rules)
    check("test", "rules", "alerts_test.yml", cwd=DEPLOY / "prometheus")
    check("check", "config", "--syntax-only", DEPLOY / "prometheus" / "prometheus.yml")
    dashboard = json.loads((DEPLOY / "grafana" / "provisioning" / "dashboards" / "tidelake.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    with folder() as place, Tidelake(options.bin, place) as server:
        server.lines("m,host=a value=1 1700000000000000000")
        assert request(f"{server.url}/write?db=d", "no line protocol")[0] == 400
        assert request(f"{server.url}/write?db=d&precision=x", "m v=1")[0] == 400
        server.sql("SELECT count(*) FROM m")
        server.post("/admin/flush")
        for query in queries:
            # As Grafana sends it.
            said = query.replace("$__rate_interval", "5m").replace("$instance", ".*")
            prometheus_api(server.url, "format_query", query=said)
        status, plain = request(f"{server.url}/metrics")
        assert status == 200 and "# EOF" not in plain
        status, open_metrics = request(f"{server.url}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert status == 200 and open_metrics.endswith("# EOF\n")
        check("check", "metrics", input=plain)
    there = {line.split("{")[0].split(" ")[0] for line in plain.splitlines() if not line.startswith("#")}
    asked = set(NAME.findall(re.sub(r"summary:.*|description:.*", "", rules.read_text())))
    for query in queries:
        asked |= set(NAME.findall(query))
    missing = sorted(name for name in asked if name not in there)
    assert not missing, f"nothing is called {missing}"
    return f"{len(there)} metrics, {len(asked)} asked for by alerts and {len(queries)} queries of the dashboard"
