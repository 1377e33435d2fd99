"""What README's table of protocols says of what is not supported, asked of a running server: each gets that answer and no other."""
import json
import urllib.parse

from harness import Tidelake, folder, free_ports, package, request
from remote_write import nested, snappy

WRITE = "application/x-protobuf"
SQL_REFUSED = [
    "INSERT INTO cpu VALUES (1)",
    "UPDATE cpu SET usage = 1",
    "CREATE TABLE x (a int)",
    "COPY cpu TO '/tmp/x.parquet'",
    "SET datafusion.execution.batch_size = 1",
    "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
    "DELETE FROM cpu WHERE usage > 1",
]
# Text, status, what is said.
INFLUXQL = [
    ("SELECT usage INTO x FROM cpu", 400, "write the answer back"),
    ("CREATE CONTINUOUS QUERY a ON b BEGIN SELECT mean(x) INTO y FROM z GROUP BY time(1m) END", 400, "GROUP BY time()"),
    ("CREATE USER a WITH PASSWORD 'x'", 400, "tidelake token"),
    ("SHOW STATS", 400, "/metrics"),
    ("KILL QUERY 1", 400, "query_timeout_ms"),
    ("SELECT exponential_moving_average(usage, 3) FROM cpu", 200, '"error":"undefined function'),
    ("SELECT FROM", 400, "error"),
]


class Asked:
    """Counts what was asked."""

    def __init__(self, server):
        self.server, self.count = server, 0

    def check(self, path, status, says="", body=None, **headers):
        self.count += 1
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        got, text = request(self.server.url + path, body, headers, method="POST" if body is not None else "GET")
        assert got == status and says in text, f"{path} {headers}: {got} {text}"


def over_http(asked):
    check = asked.check
    check("/api/v1/write", 415, "text/plain", b"x", Content_Type="text/plain")
    check("/api/v1/write", 415, "io.x", b"x", Content_Type=f"{WRITE};proto=io.x", Content_Encoding="snappy")
    check("/api/v1/write", 415, "br", b"x", Content_Type=WRITE, Content_Encoding="br")
    check("/api/v1/import/collectd", 415, body=b"PUTVAL a/b/c interval=10 1:2", Content_Type="text/plain")
    check("/api/v1/import/prometheus", 400, "2", b"a 1\nwrong{\nb 2\n")
    check("/metrics/job/x", 400, body=b"c 1\nwrong{\n")
    check("/metrics/job/x", 400, body=b"c 1 1700000000000\n")
    check("/write?db=default", 415, "deflate", b"m f=1", Content_Encoding="deflate")
    check("/write?db=default", 400, "2", b"m f=1\nwrong\nm f=2")
    check("/federate?match[]=up", 404)
    for path in ("/api/v1/admin/tsdb/snapshot", "/api/v2/query", "/v1/logs", "/v1/traces", "/api/v3/configure/last_cache", "/api/v3/configure/processing_engine_trigger"):
        check(path, 404, body=b"{}")
    for path, empty in (("rules", '"groups":[]'), ("alerts", '"alerts":[]'), ("targets", '"activeTargets":[]')):
        check(f"/api/v1/{path}", 200, empty)
    check("/api/v1/query_range?query=up&start=0&end=1000000&step=1", 400, "11,000")
    for sql in SQL_REFUSED:
        check("/api/v3/query_sql", 400, "error", urllib.parse.urlencode({"db": "default", "q": sql}), Content_Type="application/x-www-form-urlencoded")
    check("/api/v3/query_sql?" + urllib.parse.urlencode({"db": "default", "q": "SELECT * FROM '/etc/passwd'"}), 404, "not found")
    for text, status, says in INFLUXQL:
        check("/query?db=default", status, says, urllib.parse.urlencode({"q": text}), Content_Type="application/x-www-form-urlencoded")
    # One body with more samples than a request may have: two bytes each.
    labels = nested(1, nested(1, b"__name__") + nested(2, b"many"))
    many = snappy(nested(1, labels + b"\x12\x00" * 4_000_001))
    check("/api/v1/write", 413, "samples", many, Content_Type=WRITE, Content_Encoding="snappy")


def over_flight(server):
    arrow = package("pyarrow.flight")
    flight = arrow.flight
    client = flight.FlightClient(f"grpc://127.0.0.1:{server.port}")

    def ticket(text, kind):
        return client.do_get(flight.Ticket(json.dumps({"database": "default", "sql_query": text, "query_type": kind}).encode())).read_all()

    def command(name):
        packed = nested(1, f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()) + nested(2, b"")
        return flight.FlightDescriptor.for_command(packed)

    def ingest():
        schema = package("pyarrow").schema([])
        client.do_put(command("CommandStatementIngest"), schema)[0].close()

    refused = [
        (NotImplementedError, lambda: list(client.list_flights())),
        (NotImplementedError, lambda: client.get_flight_info(command("CommandStatementSubstraitPlan"))),
        (NotImplementedError, ingest),
        (NotImplementedError, lambda: list(client.do_action(flight.Action("BeginTransaction", b"")))),
        (arrow.lib.ArrowInvalid, lambda: ticket("DROP MEASUREMENT cpu", "influxql")),
        (arrow.lib.ArrowInvalid, lambda: ticket("DELETE FROM cpu", "sql")),
    ]
    for error, call in refused:
        try:
            call()
        except error:
            continue
        raise AssertionError(f"not refused with {error}")
    return len(refused)


def over_grpc(server):
    grpc = package("grpc")
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for service in ("logs.v1.LogsService", "trace.v1.TraceService"):
            call = channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")
            try:
                call(b"", timeout=30)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
            else:
                raise AssertionError(service)
    return 2


PG = [
    ("INSERT INTO cpu VALUES (1)", "0A000"),
    ("CREATE TABLE x (a int)", "0A000"),
    ("UPDATE cpu SET usage = 1", "0A000"),
    ("PREPARE a AS SELECT 1", "0A000"),
    ("LISTEN a", "0A000"),
    ("COPY cpu FROM STDIN", "0A000"),
    ("COPY cpu TO '/tmp/x'", "42501"),
    ("COPY cpu TO PROGRAM 'cat'", "42501"),
    ("BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH c; FETCH BACKWARD c", "55000"),
]


def over_postgres(port):
    pq = package("psycopg").pq
    for sql, state in PG:
        connection = pq.PGconn.connect(f"host=127.0.0.1 port={port} user=any dbname=default".encode())
        result = connection.exec_(sql.encode())
        got = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        assert got == state, f"{sql}: {got}"
        connection.finish()
    return len(PG)


def run(options):
    (pg,) = free_ports(1)
    with folder() as place, Tidelake(options.bin, place, more=["--pg-listen", f"127.0.0.1:{pg}"]) as server:
        server.lines("cpu,host=a usage=1")
        asked = Asked(server)
        over_http(asked)
        return f"{asked.count + over_flight(server) + over_grpc(server) + over_postgres(pg)} answers are as README says"
