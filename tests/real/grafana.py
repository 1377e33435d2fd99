"""Grafana without Grafana: what its data sources send (tests/golden/grafana), and every query of the dashboards of deploy/grafana, against real exporters."""
import datetime
import json
import re
import time
import urllib.parse
from pathlib import Path

from front_door import command, first_token
from harness import ROOT, Process, Skipped, Tidelake, eventually, folder, free_ports, package, program, prometheus_api, request
from remote_write import send

GOLDEN = ROOT / "tests" / "golden" / "grafana"
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


# --- the data that golden requests are asked of


def fill(server, to):
    """Half an hour of two hosts and an event, and some metrics with labels of all kinds."""
    start = to - 1800
    lines = []
    for at in range(start, to, 10):
        for n, (host, region) in enumerate([("a", "eu"), ("b", "us")]):
            lines.append(f"cpu,host={host},region={region} usage={0.1 * n + (at % 100) / 1000!r},idle={at % 90 + n}i {at}000000000")
    lines.append(f'events,kind=release title="deploy",text="version 2",tags="a,b" {to - 600}000000000')
    server.lines("\n".join(lines))
    series = []
    for code in ("200", "500"):
        for port in (80, 81):
            labels = {"__name__": "http_requests_total", "job": "api", "instance": f"web:{port}", "code": code}
            series.append((labels, [(at * 1000, float(at - start)) for at in range(start, to, 15)]))
    for le in ("0.1", "1", "+Inf"):
        labels = {"__name__": "took_seconds_bucket", "job": "api", "instance": "web:80", "le": le}
        series.append((labels, [(at * 1000, float(at - start)) for at in range(start, to, 15)]))
    named = {"__name__": "service.requests", "service.name": "shop", "job": "api"}
    series.append((named, [(at * 1000, 1.0) for at in range(start, to, 15)]))
    send(server.url, series)
    return start


# --- how an answer is read


def found(value, path):
    """Everything at a path of names and indexes, in which * is each of a list or of an object."""
    if not path:
        return [value]
    head, rest = path[0], path[1:]
    if head == "*":
        values = value.values() if isinstance(value, dict) else value
        return [each for one in values for each in found(one, rest)]
    if isinstance(value, list):
        return found(value[int(head)], rest) if len(value) > int(head) else []
    return found(value[head], rest) if isinstance(value, dict) and head in value else []


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


KINDS = {
    "string": lambda value: isinstance(value, str),
    "number": is_number,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "strings": lambda value: isinstance(value, dict) and all(isinstance(each, str) for each in value.values()),
    "[string]": lambda value: isinstance(value, list) and value and all(isinstance(each, str) for each in value),
    "empty": lambda value: isinstance(value, list) and not value,
}


def check_reads(answer, reads, values):
    for path, wanted in reads.items():
        got = found(answer, path.split("."))
        said = f"{path} should be {wanted}: {str(answer)[:600]}"
        if wanted == "absent":
            assert not got, said
            continue
        assert got, said
        if wanted.startswith("="):
            assert all(str(each) == wanted[1:] for each in got), said
        elif wanted.startswith("has "):
            assert wanted[4:].format(**values) in got, said
        else:
            assert all(KINDS[wanted](each) for each in got), said


def filled(value, values):
    """The placeholders of a text or of the texts of an object."""
    if isinstance(value, dict):
        return {name: filled(each, values) for name, each in value.items()}
    for name, text in values.items():
        value = value.replace("{" + name + "}", str(text))
    return value


def each_case(name, check):
    failed, count = [], 0
    for case in json.loads((GOLDEN / f"{name}.json").read_text())["cases"]:
        count += 1
        try:
            check(case)
        except Exception as error:  # all are told at once
            failed.append(f"{name}, {case['use']}: {type(error).__name__} {error}")
    assert not failed, "\n".join(failed)
    return count


# --- the four sources


def prometheus(server, values):
    def check(case):
        status = case.get("status", 200)
        query = urllib.parse.urlencode(filled(case.get("query", case.get("form")), values))
        if "post" in case:
            got, text = request(server.url + case["post"], query, FORM)
            if case.get("replayed") and got in (400, 405):
                got, text = request(f"{server.url}{case['post']}?{query}")
        else:
            got, text = request(f"{server.url}{case['get']}?{query}")
        assert got == status, f"{got} {text}"
        check_reads(json.loads(text), case["reads"], values)

    return each_case("prometheus", check)


def influxql(server, values):
    def check(case):
        status, q = case.get("status", 200), filled(case["q"], values)
        where = {"db": values["db"], "epoch": "ms"}
        posted = request(f"{server.url}/query?{urllib.parse.urlencode(where)}", urllib.parse.urlencode({"q": q}), FORM)
        got = request(f"{server.url}/query?{urllib.parse.urlencode({**where, 'q': q})}")
        for answered, text in (posted, got):
            assert answered == status, f"{answered} {text}"
            check_reads(json.loads(text), case["reads"], values)

    return each_case("influxql", check)


def check_rows(case, columns, types, rows):
    """`columns` are names, `types` their types, `rows` lists."""
    if "rows" in case:
        assert len(rows) == case["rows"], f"{len(rows)} rows: {rows[:5]}"
    elif "first" not in case:
        assert rows, "no row"
    first = [row[0] for row in rows]
    for wanted in case.get("first", []):
        assert wanted in first, f"{wanted} is not among {first}"
    for name, kind in case.get("types", {}).items():
        got = types[columns.index(name)]
        assert got == kind, f"{name} is {got}, not {kind}"


# What the plugin copies; whatever else there is, it shows as nothing.
ARROW = {"string", "float", "double", "bool", "timestamp[ns]", "duration[ns]", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


def flightsql(server, values):
    module = package("flightsql")
    client = module.FlightSQLClient(host="127.0.0.1", port=server.port, insecure=True, metadata={"database": values["db"]})

    def ask(sql):
        info = client.execute(sql)
        assert len(info.endpoints) == 1, info
        return client.do_get(info.endpoints[0].ticket).read_all()

    def check(case):
        sql = filled(case["sql"], values)
        if "error" in case:
            try:
                ask(sql)
            except Exception as error:
                assert case["error"] in str(error), error
                return
            raise AssertionError("no error")
        table = ask(sql)
        types = [str(kind) for kind in table.schema.types]
        assert set(types) <= ARROW, f"{types}"
        check_rows(case, table.column_names, types, [list(row.values()) for row in table.to_pylist()])

    try:
        return each_case("flightsql", check)
    finally:
        client.close()


SEARCH_PATH = """
          quote_ident(table_schema) IN (
          SELECT
            CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
          FROM
            generate_series(
              array_lower(string_to_array(current_setting('search_path'),','),1),
              array_upper(string_to_array(current_setting('search_path'),','),1)
            ) as i,
            string_to_array(current_setting('search_path'),',') s
          )"""
OIDS = {16: "bool", 20: "int8", 21: "int2", 23: "int4", 25: "text", 701: "float8", 700: "float4", 1114: "timestamp", 1184: "timestamptz", 1082: "date", 1186: "interval", 1700: "numeric", 114: "json", 19: "name", 1043: "varchar"}


def postgresql(port, values):
    pq = package("psycopg").pq
    where = f"host=127.0.0.1 port={port} user=grafana dbname={values['db']} sslmode=disable".encode()
    connection = pq.PGconn.connect(where)
    assert connection.status == pq.ConnStatus.OK, connection.error_message
    values = {**values, "search_path": SEARCH_PATH}

    def check(case):
        result = connection.exec_(filled(case["sql"], values).encode())
        if "error" in case:
            state = result.error_field(pq.DiagnosticField.SQLSTATE).decode()
            assert state == case["error"], state
            return
        if case.get("empty"):
            assert result.status == pq.ExecStatus.EMPTY_QUERY, result.status
            return
        assert result.status == pq.ExecStatus.TUPLES_OK, result.error_message.decode()
        assert result.command_status.startswith(b"SELECT "), result.command_status
        columns = [result.fname(n).decode() for n in range(result.nfields)]
        types = [OIDS.get(result.ftype(n)) for n in range(result.nfields)]
        assert None not in types, [result.ftype(n) for n in range(result.nfields)]
        rows = [[decoded(result.get_value(row, n)) for n in range(result.nfields)] for row in range(result.ntuples)]
        check_rows(case, columns, types, rows)
        if "time" in columns and rows:
            first = rows[0][columns.index("time")]
            datetime.datetime.fromisoformat(first) if types[columns.index("time")].startswith("timestamp") else float(first)

    try:
        return each_case("postgresql", check)
    finally:
        connection.finish()


def decoded(value):
    return None if value is None else value.decode()


def golden(options):
    (pg,) = free_ports(1)
    flags = ["--pg-listen", f"127.0.0.1:{pg}"]
    with folder() as place, Tidelake(options.bin, place, more=flags, env={"TIDELAKE_SELF_MONITORING_INTERVAL_MS": "1000"}) as server:
        to = int(time.time()) // 60 * 60
        start = fill(server, to)

        def rfc(at):
            return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

        values = {"from_ms": start * 1000, "to_ms": to * 1000, "from_rfc": rfc(start), "to_rfc": rfc(to), "from": start, "to": to, "db": "default"}
        return sum([prometheus(server, values), influxql(server, values), flightsql(server, values), postgresql(pg, values)])


def with_tokens(options):
    """The health checks as the provisioned sources show a token, and without one."""
    (pg,) = free_ports(1)
    module, psycopg = package("flightsql"), package("psycopg")
    with folder() as place, Tidelake(options.bin, place, more=["--auth", "--pg-listen", f"127.0.0.1:{pg}"]) as server:
        words = ["create", "grafana", "--scope", "default:read", "--scope", "_internal:read", "--data-dir", server.data]
        token = command(options, *words).strip()
        admin = {"Authorization": f"Bearer {first_token(server)}"}
        assert request(f"{server.url}/write?db=default", "cpu v=1", admin)[0] == 204

        def flight(secret):
            client = module.FlightSQLClient(host="127.0.0.1", port=server.port, insecure=True, token=secret, metadata={"database": "default"})
            try:
                client.do_get(client.execute("select 1").endpoints[0].ticket).read_all()
            finally:
                client.close()

        def postgres(secret):
            psycopg.connect(host="127.0.0.1", port=pg, user="grafana", password=secret, dbname="default", sslmode="disable").close()

        def asked(secret):
            for path, kind in (("/api/v1/query?query=1", "Bearer"), ("/db/_internal/api/v1/query?query=1", "Bearer"), ("/query?db=default&q=SHOW+measurements", "Token")):
                yield lambda: request(server.url + path, headers={**FORM, "Authorization": f"{kind} {secret}"})[0] == 200
            yield lambda: flight(secret) is None
            yield lambda: postgres(secret) is None

        eventually("the token is known", lambda: next(asked(token))(), 5)
        count = sum(check() for check in asked(token))
        assert count == 5, f"{count} sources let the token in"
        for check in asked("none"):
            try:
                let_in = check()
            except Exception:  # each client has errors of its own
                continue
            assert not let_in
    return count


# --- the dashboards


def dashboards():
    return {path.stem: json.loads(path.read_text()) for path in sorted((PROVISIONING / "dashboards").glob("*.json"))}


def variable(server, base, text, chosen, seconds):
    """The values of `label_values(metric, label)`, as Grafana asks for them."""
    selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", text).groups()
    now = time.time()
    params = {"match[]": substituted(selector, chosen, seconds), "start": now - 3600, "end": now}
    status, answer = request(f"{server.url}{base}/api/v1/label/{label}/values?{urllib.parse.urlencode(params)}")
    assert status == 200, f"{text}: {status} {answer}"
    return json.loads(answer)["data"]


def substituted(text, chosen, seconds):
    """As Grafana puts variables into PromQL: several values become alternatives, escaped for a regular expression."""
    texts = {"__rate_interval": f"{seconds}s", "__interval": "1s", "__range": "300s", **chosen}
    left = re.sub(r"\$\{?(\w+)(?::\w+)?\}?", lambda found: texts[found[1]], text)
    assert "$" not in left.replace('$"', ""), left
    return left


def escaped(values):
    """Of strings of PromQL: a backslash is written twice."""
    alternatives = "|".join(re.sub(r"[\\^$.*+?()\[\]{}|]", lambda found: "\\\\" + found[0], value) for value in values)
    return f"({alternatives})" if len(values) > 1 else alternatives


def choose(server, base, dashboard, seconds):
    """What `All` means of each variable."""
    chosen = {"source": "tidelake"}
    for one in dashboard["templating"]["list"]:
        if one["type"] == "query":
            values = variable(server, base, one["query"], chosen, seconds)
            assert values, f"{one['query']} has no values at {base or 'default'}"
            chosen[one["name"]] = one.get("allValue") or escaped(values)
    return chosen


def expressions(dashboard):
    """(panel, text, whether it is for one time)"""
    names = [panel["id"] for panel in dashboard["panels"]]
    assert len(names) == len(set(names)), names
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target.get("instant", False)


def answers(server, base, dashboard, seconds):
    """{(panel, text): the labels of the series}"""
    chosen = choose(server, base, dashboard, seconds)
    there = {}
    for title, text, instant in expressions(dashboard):
        query, now = substituted(text, chosen, seconds), time.time()
        if instant:
            result = prometheus_api(server.url + base, "query", query=query, time=now)["result"]
        else:
            result = prometheus_api(server.url + base, "query_range", query=query, start=now - seconds, end=now, step=1)["result"]
        there[title, text] = {tuple(sorted(one["metric"].items())) for one in result}
    return there


class Plain:
    """A server by its address."""

    def __init__(self, url):
        self.url = url


CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- {{job_name: node, static_configs: [{{targets: ["127.0.0.1:{node}"]}}]}}
- {{job_name: lake, static_configs: [{{targets: ["127.0.0.1:{tidelake}"]}}]}}
remote_write:
- url: http://127.0.0.1:{tidelake}/api/v1/write
  queue_config: {{batch_send_deadline: 500ms, min_backoff: 30ms, max_backoff: 500ms}}
"""
SECONDS = 12


def busy(server):
    """Requests of all kinds that the dashboard shows, good and bad."""
    for n in range(3):
        server.lines(f"load,host=h{n} v={n}")
        server.sql("SELECT count(*) FROM load")
        request(f"{server.url}/query?db=default&q=SHOW+MEASUREMENTS")
        prometheus_api(server.url, "query", query="load_v")
        request(f"{server.url}/write?db=default", "no line protocol")
    server.post("/admin/flush")
    server.post("/admin/compact")


def on_dashboards(options):
    """Every query of every dashboard, for what a Prometheus sent and for what the server stored itself."""
    exporter, peer = program("prometheus-node-exporter"), program("prometheus")
    own, node, port = free_ports(3)
    all_of = dashboards()
    with folder() as place:
        config = Path(place) / "prometheus.yml"
        config.write_text(CONFIG.format(node=node, tidelake=port))
        server = Tidelake(options.bin, place, port=port, env={"TIDELAKE_SELF_MONITORING_INTERVAL_MS": "1000"})
        exporting = Process([exporter, f"--web.listen-address=127.0.0.1:{node}"], Path(place) / "node.log")
        scraping = Process(
            [peer, f"--config.file={config}", f"--storage.tsdb.path={place}/tsdb", f"--web.listen-address=127.0.0.1:{own}"], Path(place) / "prometheus.log"
        )
        with server, exporting, scraping:
            eventually("node_exporter's metrics", lambda: prometheus_api(server.url, "query", query="node_load1")["result"])
            began = time.monotonic()
            while time.monotonic() - began < SECONDS + 3:
                busy(server)
                time.sleep(0.5)
            busy(server)
            time.sleep(1.5)
            count, empty = 0, []
            for base in ("/db/_internal", ""):
                for (title, text), series in answers(server, base, all_of["tidelake"], SECONDS).items():
                    count += 1
                    if not series and text not in QUIET:
                        empty.append(f"{base} {title}: {text}")
            assert not empty, "no data:\n" + "\n".join(empty)
            mine = answers(server, "", all_of["node"], SECONDS)
            theirs = answers(Plain(f"http://127.0.0.1:{own}"), "", all_of["node"], SECONDS)
            assert mine.keys() == theirs.keys()
            for key, series in mine.items():
                assert series == theirs[key], f"{key}: {series} is not {theirs[key]}"
            # What this machine does not have (disks, swap) is nowhere; most is.
            shown = sum(bool(series) for series in mine.values())
            assert shown >= len(mine) * 2 // 3, f"{shown} of {len(mine)}: {[key for key, series in mine.items() if not series]}"
    return count + len(mine), shown, len(mine)


# What has no figures unless something fails, or needs a setting.
QUIET = set()


def check_sources():
    """Each kind of source is there once at least, none has a secret of its own, and each name of a dashboard's source is one."""
    text = (PROVISIONING / "datasources" / "tidelake.yaml").read_text()
    for kind in ("prometheus", "influxdb", "grafana-postgresql-datasource"):
        assert f"type: {kind}\n" in text, kind
    for mode in ("version: InfluxQL", "version: SQL", "httpMethod: POST", "httpMode: POST", "exemplarTraceIdDestinations"):
        assert mode in text, mode
    compose = (ROOT / "deploy" / "compose.yaml").read_text()
    asked = set(re.findall(r"\$([A-Z_]+)", re.sub(r"#.*", "", text)))
    missing = [name for name in asked if not re.search(rf"^ +{name}: ", compose, re.M)]
    assert not missing, f"compose.yaml does not set {missing}"
    uids = set(re.findall(r"uid: (\S+)", text))
    for name, dashboard in dashboards().items():
        for one in dashboard["templating"]["list"]:
            if one["type"] == "datasource":
                assert one["current"]["value"] in uids, f"{name}: {one}"


def run(options):
    check_sources()
    requests, let_in = golden(options), with_tokens(options)
    try:
        queries, shown, of_node = on_dashboards(options)
    except Skipped as reason:
        return f"{requests} golden requests of 4 sources, {let_in} with tokens; dashboards skipped: {reason}"
    return f"{requests} golden requests of 4 sources, {let_in} with tokens; {queries} queries of 2 dashboards, {shown} of {of_node} of node_exporter's with data"
