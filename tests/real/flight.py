"""Arrow Flight: Python's, ADBC's, DB-API's, polars', DuckDB's and InfluxDB 3's clients get what was written, to the last bit."""
import json
import math
import shutil
import struct
import subprocess
from pathlib import Path

from harness import VENV, Process, Tidelake, eventually, folder, free_port, package, program, request

HERE = Path(__file__).resolve().parent
JS = VENV.parent / "node"  # where install.sh puts packages of Node

BEFORE_1970 = -1_234_567_890_123_456_789
# Name: float, integer, unsigned, text, time in ns.
HARD = {
    "zero": (-0.0, 0, 0, "", BEFORE_1970),
    "min": (5e-324, -(2**63), 1, 'say "hi", it\'s \\ back', -1),
    "max": (1.7976931348623157e308, 2**63 - 1, 2**64 - 1, "Ünïcode 漢字 🦀", 0),
    "odd": (0.1 + 0.2, -1, 2**63, "a=b,c d", 1),
    "small": (-2.2250738585072e-308, 1, 7, " ", 1_767_225_600_123_456_789),
}
SPECIAL = [math.nan, math.inf, -math.inf, -0.0, 5e-324]


def bits(value):
    return struct.pack("<d", value)


def line_text(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def write_hard(server):
    lines = [f"hard,name={name} f={f!r},i={i}i,u={u}u,s={line_text(s)},b={str(i > 0).lower()} {t}" for name, (f, i, u, s, t) in HARD.items()]
    server.lines("\n".join(lines))


def varint(n):
    out = b""
    while True:
        n, low = n >> 7, n & 127
        out += bytes([low | (128 if n else 0)])
        if not n:
            return out


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def write_special(server):
    """Samples that no line of text can hold, by remote write."""
    labels = field(1, field(1, b"__name__") + field(2, b"special"))
    samples = [field(2, b"\x09" + bits(value) + b"\x10" + varint(1000 * (at + 1))) for at, value in enumerate(SPECIAL)]
    message = field(1, labels + b"".join(samples))
    assert len(message) < 1 << 16
    block = varint(len(message)) + b"\xf4" + struct.pack("<H", len(message) - 1) + message  # one literal of snappy
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    status, text = request(f"{server.url}/api/v1/write", block, headers)
    assert status in (200, 204), f"{status} {text}"


def check_hard(table):
    """A table of Arrow with the columns of `hard`, in order of time."""
    assert [str(t) for t in table.schema.types] == ["string", "timestamp[ns]", "bool", "double", "int64", "string", "uint64"], table.schema
    columns = {name: table.column(name) for name in table.column_names}
    times = [t.value for t in columns["time"]]
    assert times == [t for *_, t in HARD.values()], times
    for at, (name, (f, i, u, s, _)) in enumerate(HARD.items()):
        got = {key: column[at].as_py() for key, column in columns.items() if key != "time"}
        assert got == {"name": name, "f": f, "i": i, "u": u, "s": s, "b": i > 0}, got
        assert bits(got["f"]) == bits(f), (name, got["f"])


def check_influxql(table):
    """The same from InfluxQL, whose columns are those of InfluxDB 3."""
    assert table.column_names == ["iox::measurement", "time", "b", "f", "i", "name", "s", "u"], table.column_names
    assert set(table.column("iox::measurement").to_pylist()) == {"hard"}, table
    check_hard(table.select(["name", "time", "b", "f", "i", "s", "u"]))


def check_special(table):
    assert [bits(v) for v in table.column("value").to_pylist()] == [bits(v) for v in SPECIAL], table
    assert [t.value for t in table.column("time")] == [10**9 * (at + 1) for at in range(len(SPECIAL))], table


HARD_INFLUXQL = "SELECT * FROM hard"
HARD_SQL = "SELECT name, time, b, f, i, s, u FROM hard ORDER BY time"
SPECIAL_SQL = "SELECT time, value FROM special ORDER BY time"


def ticket(sql, kind="sql", **more):
    flight = package("pyarrow.flight").flight
    return flight.Ticket(json.dumps({"database": "default", "sql_query": sql, "query_type": kind, **more}).encode())


def refused(call, kind, *words):
    try:
        call()
    except kind as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, f"{missing} is not in: {error}"
        return str(error)
    raise AssertionError(f"{words}: nothing was refused")


def outcomes(server):
    """How SQL queries have ended so far."""
    lines = request(f"{server.url}/metrics")[1].splitlines()
    found = [line for line in lines if line.startswith("tidelake_queries_ended_total{") and 'language="sql"' in line]
    return {line.split('outcome="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in found}


def running(server):
    lines = request(f"{server.url}/metrics")[1].splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("tidelake_queries_running"))


ENDLESS = "SELECT value AS x FROM generate_series(1, 1000000000000)"
LARGE = "SELECT a.value AS n, repeat('x', 100) AS t FROM generate_series(1, 300000) AS a"


def pyarrow_flight(server):
    arrow = package("pyarrow.flight")
    flight = arrow.flight
    client = flight.FlightClient(f"grpc://127.0.0.1:{server.port}")
    check_hard(client.do_get(ticket(HARD_SQL)).read_all())
    check_special(client.do_get(ticket(SPECIAL_SQL)).read_all())
    got = client.do_get(ticket("SELECT i FROM hard WHERE name = $n AND f > $f", params={"n": "max", "f": 1.5})).read_all()
    assert got.to_pylist() == [{"i": 2**63 - 1}], got
    # Messages stay below what clients take by default, and all rows come.
    reader, rows, largest = client.do_get(ticket(LARGE)), 0, 0
    for chunk in reader:
        rows, largest = rows + chunk.data.num_rows, max(largest, chunk.data.get_total_buffer_size())
    assert rows == 300_000 and 100_000 < largest < 4 << 20, (rows, largest)
    refused(lambda: client.do_get(ticket("SELECT * FROM none")).read_all(), KeyError, 'table "none" not found')
    check_influxql(client.do_get(ticket(HARD_INFLUXQL, "influxql")).read_all())
    got = client.do_get(ticket("SELECT max(i) FROM hard WHERE f > $f GROUP BY \"name\"", "influxql", params={"f": 1e300})).read_all()
    assert got.column_names == ["iox::measurement", "time", "name", "max"], got
    assert {row["name"]: row["max"] for row in got.to_pylist()} == {name: one[1] for name, one in HARD.items() if one[0] > 1e300}, got
    names = client.do_get(ticket("SHOW MEASUREMENTS", "influxql")).read_all()
    assert {"iox::measurement": "measurements", "name": "hard"} in names.to_pylist(), names
    refused(lambda: client.do_get(ticket("SELECT", "influxql")).read_all(), arrow.lib.ArrowInvalid, "error parsing query")
    refused(lambda: client.do_get(flight.Ticket(b"{")).read_all(), arrow.lib.ArrowInvalid, "a ticket must be JSON")
    refused(lambda: client.do_get(flight.Ticket(b"\xff\xff")).read_all(), arrow.lib.ArrowInvalid, "no command of Flight SQL")
    # A failure after a megabyte is said to be one.
    broken = "SELECT 1 / (250000 - n) AS x, t FROM (" + LARGE + ")"
    refused(lambda: client.do_get(ticket(broken)).read_all(), arrow.lib.ArrowInvalid, "Divide by zero")
    # Nobody waits for ever, and who waits less long ends the query.
    options = flight.FlightCallOptions(timeout=0.5)
    refused(lambda: client.do_get(ticket("SELECT max(x) FROM (" + ENDLESS + ")"), options).read_all(), flight.FlightTimedOutError)
    eventually("the end of a query whose client did not wait", lambda: running(server) == 0, 5)
    # Whoever leaves ends the query.
    before = outcomes(server).get("cancelled", 0)
    reader = client.do_get(ticket(ENDLESS))
    assert reader.read_chunk().data.num_rows > 0
    assert running(server) == 1
    reader.cancel()
    eventually("the end of a query whose client left", lambda: running(server) == 0, 5)
    assert outcomes(server)["cancelled"] == before + 1, outcomes(server)
    token = client.authenticate_basic_token("anyone", "secret")
    assert token == (b"authorization", b"Bearer secret"), token
    client.close()


def adbc(server):
    dbapi = package("adbc_driver_flightsql.dbapi").dbapi
    with dbapi.connect(f"grpc://127.0.0.1:{server.port}", autocommit=True) as connection, connection.cursor() as cursor:

        def query(sql, params=None):
            cursor.execute(sql, params)
            return cursor.fetch_arrow_table()

        check_hard(query(HARD_SQL))
        check_special(query(SPECIAL_SQL))
        for name, (f, i, _, s, _) in HARD.items():
            got = query("SELECT name FROM hard WHERE f = ? AND i = ? AND s = ?", (f, i, s)).to_pylist()
            assert got == [{"name": name}], (name, got)
        arrow = package("pyarrow")
        moment = arrow.scalar(-1, arrow.timestamp("ns"))
        got = query("SELECT name FROM hard WHERE time <= $1 ORDER BY time", (moment,)).to_pylist()
        assert got == [{"name": "zero"}, {"name": "min"}], got
        assert query("SELECT $1 AS a, $2 AS b, $3 AS c", (None, True, -(2**63))).to_pylist() == [{"a": None, "b": True, "c": -(2**63)}]
        assert connection.adbc_get_info()["vendor_name"] == "Tidelake"
        databases = connection.adbc_get_objects(depth="tables", db_schema_filter="public").read_all().to_pylist()
        public = {d["catalog_name"]: d["catalog_db_schemas"] for d in databases}["default"]
        assert [t["table_name"] for t in public[0]["db_schema_tables"]] == ["hard"], public
        schema = connection.adbc_get_table_schema("hard")
        assert set(schema.names) == {"name", "time", "f", "i", "u", "s", "b"} and str(schema.field("time").type) == "timestamp[ns]", schema
        assert connection.adbc_get_table_types() == ["BASE TABLE", "VIEW"]
        wrong = dbapi.ProgrammingError
        refused(lambda: query("SELECT ?"), wrong, "parameter $1 has no value")
        refused(lambda: query("SELECT nothing FROM hard"), wrong, "nothing")
        refused(lambda: query("DELETE FROM hard WHERE time < '1970-01-01'"), wrong, "execute it as an update")
        refused(lambda: query("SELECT * FROM '/etc/passwd'"), wrong, "not found")
        for sql in (
            "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "SET datafusion.execution.batch_size = 1",
            "INSERT INTO hard VALUES (1)",
            "SELECT 1; SELECT 2",
        ):
            refused(lambda sql=sql: query(sql), wrong)
        server.lines("gone,k=a x=1 1\ngone,k=b x=2 2")
        cursor.adbc_statement.set_sql_query("DELETE FROM gone WHERE k = 'a' AND time < '1980-01-01'")
        assert cursor.adbc_statement.execute_update() == -1
        assert query("SELECT k FROM gone").to_pylist() == [{"k": "b"}]
        refused(lambda: cursor.adbc_ingest("t", query("SELECT 1 AS a")), dbapi.NotSupportedError, "line protocol")
        # What Grafana's SQL mode sends.
        assert query("select 1").num_rows == 1
        tables = query("SELECT table_name FROM information_schema.tables WHERE table_schema = 'iox' ORDER BY table_name")
        assert {"hard", "gone"} <= set(tables.column(0).to_pylist()), tables
        schemas = query("SELECT DISTINCT TABLE_SCHEMA from information_schema.TABLES where TABLE_TYPE != 'SYSTEM VIEW' ORDER BY TABLE_SCHEMA")
        assert "public" in schemas.column(0).to_pylist(), schemas
        columns = query("SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'iox' AND table_name = 'hard' ORDER BY column_name")
        assert columns.column(0).to_pylist() == sorted(["name", "time", "f", "i", "u", "s", "b"]), columns
        binned = query(
            "SELECT date_bin(interval '10 second', time, timestamp '1970-01-01T00:00:00Z') AS time_binned, avg(\"f\") FROM \"iox\".\"hard\" "
            "WHERE time >= cast('1970-01-01T00:00:00Z' as timestamp) AND time <= cast('1970-01-02T00:00:00Z' as timestamp) GROUP BY 1 ORDER BY 1"
        )
        assert binned.num_rows == 1 and str(binned.schema.field(0).type) == "timestamp[ns]", binned
        refused(lambda: query("SELECT date_bin(interval '0 second', time) FROM hard"), wrong, "non-zero")
        assert query("SELECT datepart('year', time) AS y FROM hard WHERE name = 'max'").to_pylist() == [{"y": 1970}]


def polars_and_duckdb(server):
    polars, duckdb = package("polars"), package("duckdb")
    dbapi = package("adbc_driver_flightsql.dbapi").dbapi
    with dbapi.connect(f"grpc://127.0.0.1:{server.port}", autocommit=True) as connection:
        frame = polars.read_database(HARD_SQL, connection)
        check_hard_frame({name: frame[name].to_list() for name in frame.columns if name != "time"}, frame["time"].dt.epoch("ns").to_list())
        with connection.cursor() as cursor:
            cursor.execute(HARD_SQL)
            hard = cursor.fetch_arrow_table()
        rows = duckdb.sql("SELECT name, i, u, f, s FROM hard ORDER BY time").fetchall()
        assert [row[:3] + (bits(row[3]), row[4]) for row in rows] == [(n, i, u, bits(f), s) for n, (f, i, u, s, _) in HARD.items()], rows
        del hard


def check_hard_frame(columns, times):
    assert times == [t for *_, t in HARD.values()], times
    assert columns["name"] == list(HARD), columns
    for at, (f, i, u, s, _) in enumerate(HARD.values()):
        got = (bits(columns["f"][at]), columns["i"][at], columns["u"][at], columns["s"][at], columns["b"][at])
        assert got == (bits(f), i, u, s, i > 0), got


def flightsql_dbapi(server):
    client = package("flightsql").FlightSQLClient(host="127.0.0.1", port=server.port, insecure=True, metadata={"bucket-name": "default"})
    for sql, check in ((HARD_SQL, check_hard), (SPECIAL_SQL, check_special)):
        info = client.execute(sql)
        assert len(info.endpoints) == 1 and not info.endpoints[0].locations, info
        reader = client.do_get(info.endpoints[0].ticket)
        table = reader.read_all()
        assert table.schema.equals(info.schema, check_metadata=True), (table.schema, info.schema)
        check(table)
    from flightsql import connect

    cursor = connect(client).cursor()
    cursor.execute("SELECT name, i FROM hard ORDER BY time")
    assert [tuple(row) for row in cursor.fetchall()] == [(name, i) for name, (_, i, *_) in HARD.items()]
    info = client.get_tables(include_schema=True, db_schema_filter_pattern="public")
    tables = client.do_get(info.endpoints[0].ticket).read_all().to_pylist()
    assert "hard" in [t["table_name"] for t in tables] and all(t["table_schema"] for t in tables), tables
    catalogs = client.do_get(client.get_catalogs().endpoints[0].ticket).read_all().column(0).to_pylist()
    assert "default" in catalogs, catalogs
    from flightsql.client import TableRef

    table = TableRef(table="hard")
    for keys in (client.get_primary_keys(table), client.get_imported_keys(table), client.get_exported_keys(table)):
        assert client.do_get(keys.endpoints[0].ticket).read_all().num_rows == 0
    client.close()


def influxdb3_python(server):
    influx = package("influxdb_client_3")
    with influx.InfluxDBClient3(host=server.url, token="any", database="default") as client:
        client.write(influx.Point("py3").tag("k", "v w").field("f", -0.0).field("i", 2**63 - 1).field("s", 'a "b"').time(BEFORE_1970))
        table = client.query("SELECT k, f, i, s, time FROM py3")
        row = {name: column[0].as_py() for name, column in zip(table.column_names, table.columns) if name != "time"}
        assert row == {"k": "v w", "f": 0.0, "i": 2**63 - 1, "s": 'a "b"'} and bits(row["f"]) == bits(-0.0), row
        assert table.column("time")[0].value == BEFORE_1970, table
        check_hard(client.query(HARD_SQL, language="sql"))
        check_special(client.query(SPECIAL_SQL))
        got = client.query("SELECT i FROM hard WHERE name = $name AND i > $least", query_parameters={"name": "max", "least": 5})
        assert got.to_pylist() == [{"i": 2**63 - 1}], got
        frame = client.query(HARD_SQL, mode="pandas")
        check_hard_frame({name: list(frame[name]) for name in frame.columns if name != "time"}, [int(t.value) for t in frame["time"]])
        frame = client.query(HARD_SQL, mode="polars")
        check_hard_frame({name: frame[name].to_list() for name in frame.columns if name != "time"}, frame["time"].dt.epoch("ns").to_list())
        assert sum(chunk.num_rows for chunk in client.query(LARGE, mode="reader")) == 300_000
        check_influxql(client.query(HARD_INFLUXQL, language="influxql"))
        frame = client.query(HARD_INFLUXQL, language="influxql", mode="pandas")
        assert list(frame["iox::measurement"]) == ["hard"] * len(HARD), frame
        refused(lambda: client.query("SELECT * FROM none"), Exception, "not found")
        failures = []
        options = influx.write_client_options(
            write_options=influx.WriteOptions(batch_size=50, flush_interval=200), error_callback=lambda *words: failures.append(words)
        )
        with influx.InfluxDBClient3(host=server.url, token="any", database="default", write_client_options=options) as batching:
            for i in range(500):
                batching.write(f"batches n={i}i {i + 1}")
        assert not failures, failures
        counted = client.query("SELECT count(*) AS c, sum(n) AS s, max(time) AS t FROM batches").to_pylist()
        assert (counted[0]["c"], counted[0]["s"]) == (500, 124_750), counted
        pandas = package("pandas")
        times = pandas.to_datetime([10**18, 10**18 + 1])
        client.write(pandas.DataFrame({"x": [1.5, 2.5], "t": ["a", "b"]}, index=times), data_frame_measurement_name="frame", data_frame_tag_columns=["t"])
        assert client.query("SELECT x FROM frame ORDER BY time").to_pylist() == [{"x": 1.5}, {"x": 2.5}]


def influxdb3_js(server):
    node = shutil.which("node")
    if not node or not (JS / "node_modules" / "@influxdata" / "influxdb3-client").exists():
        return "without influxdb3-client of Node, which is not installed"
    ran = subprocess.run([node, HERE / "flight_js" / "client.mjs", JS, server.url, "any"], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-2000:]
    got = json.loads(ran.stdout)
    assert [row["name"] for row in got["rows"]] == list(HARD), got["rows"]
    for row, (f, i, u, s, t) in zip(got["rows"], HARD.values()):
        # The client makes numbers of JavaScript of integers, and milliseconds of times.
        assert (row["f"], float(row["i"]), row["u"], row["s"], row["b"]) == (f, float(i), {"bigint": str(u)}, s, i > 0), row
        assert abs(row["time"] - t / 1e6) < 1e-3, row
    assert [float(i) for i in got["params"]] == [float(2**63 - 1)], got["params"]
    (point,) = got["points"]
    assert point["tags"] == {"from": 'node, "x"=1'} and point["time"] == "1500000000000", point
    expected = {"f": ["float", 0.1], "i": ["integer", -7], "u": ["uinteger", 8], "b": ["boolean", True], "s": ["string", "it's \\ é"]}
    assert point["fields"] == expected, point
    assert got["influxql"] == [["js", 'node, "x"=1', 0.1, 8]], got["influxql"]
    return "JavaScript too"


def with_tokens(options):
    arrow = package("pyarrow.flight")
    flight = arrow.flight
    dbapi = package("adbc_driver_flightsql.dbapi").dbapi
    with folder() as place, Tidelake(options.bin, place, more=["--auth", "--write-timeout-ms", "2000"]) as server:
        admin = next(Path(place).rglob("admin-token")).read_text().strip()
        status, text = request(f"{server.url}/api/v2/write?bucket=default", "m x=1 1", {"Authorization": f"Bearer {admin}"})
        assert status == 204, text
        client = flight.FlightClient(f"grpc://127.0.0.1:{server.port}")
        unauthenticated = flight.FlightUnauthenticatedError
        refused(lambda: client.do_get(ticket("SELECT 1")).read_all(), unauthenticated, "token")
        refused(lambda: client.authenticate_basic_token("x", "tide_wrong"), unauthenticated)
        header = client.authenticate_basic_token("x", admin)
        with_header = flight.FlightCallOptions(headers=[header])
        assert client.do_get(ticket("SELECT x FROM m"), with_header).read_all().to_pylist() == [{"x": 1.0}]
        # Who takes nothing loses the query, and the others do not notice.
        reader = client.do_get(ticket(LARGE.replace("300000", "30000000")), with_header)
        reader.read_chunk()
        bearer = {"Authorization": f"Bearer {admin}"}
        stalled = lambda: any('outcome="stalled"' in line and not line.endswith(" 0") for line in request(f"{server.url}/metrics", headers=bearer)[1].splitlines())
        eventually("the end of a query whose client takes nothing", stalled, 30)
        del reader
        with dbapi.connect(f"grpc://127.0.0.1:{server.port}", {"username": "x", "password": admin}, autocommit=True) as connection:
            with connection.cursor() as cursor:
                cursor.execute("SELECT x FROM m")
                assert cursor.fetchall() == [(1.0,)]


def over_tls(options):
    openssl = program("openssl")
    flight = package("pyarrow.flight").flight
    with folder() as place:
        cert, key = Path(place) / "cert.pem", Path(place) / "key.pem"
        command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost"]
        subprocess.run([*command, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        log, port = Path(place) / "tls.log", free_port()
        more = ["--listen", f"127.0.0.1:{port}", "--data-dir", Path(place) / "db", "--tls-cert", cert, "--tls-key", key]
        with Process([options.bin, "serve", *more], log) as server:
            client = flight.FlightClient(f"grpc+tls://localhost:{port}", tls_root_certs=cert.read_bytes())

            def answers():
                server.check_alive()
                try:
                    return client.do_get(ticket("SELECT 1")).read_all().num_rows
                except KeyError as error:
                    # The database comes with the first write, but the server has answered.
                    return "does not exist" in str(error)
                except flight.FlightUnavailableError:
                    return False

            eventually("an answer over TLS", answers)


def run(options):
    package("pyarrow.flight")
    clients = (pyarrow_flight, adbc, polars_and_duckdb, flightsql_dbapi, influxdb3_python, influxdb3_js)
    with folder() as place, Tidelake(options.bin, place) as server:
        write_hard(server)
        write_special(server)
        notes = [note for note in (client(server) for client in clients) if note]
        # The same after a flush, from files.
        server.post("/admin/flush")
        pyarrow_flight(server)
    with_tokens(options)
    over_tls(options)
    return ", ".join([f"{len(HARD) + len(SPECIAL)} hard rows through {len(clients)} clients", *notes])
