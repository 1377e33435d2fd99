"""The other clients of InfluxDB 1 and 2: `influxdb` for Python (points, DataFrames, queries, chunks), `influx` and
`@influxdata/influxdb-client` for Node. Each reads back what it wrote, to the bit and the nanosecond."""
import json
import struct
import subprocess

from harness import VENV, Skipped, Tidelake, folder, package, program

# The client of Node for version 1 leaves backslashes as they are, also before what it escapes: there they would mean something else.
TEXT = 'quote " back\\slash comma, equals= blank é 🦀'
# Line protocol has no NaN and no infinities: InfluxDB refuses them, and so do its clients.
FLOATS = [0.0, -0.0, 5e-324, -2.2250738585072014e-308, 1.7976931348623157e308, 2.0**63, 0.1, 1 / 3]
INTEGERS = [0, -1, 2**63 - 1, -(2**63)]
TIMES = [-1, 0, 1, -62_135_596_800 * 10**9 // 10, 1_767_225_600_123_456_789]


def run(options):
    with folder() as place, Tidelake(options.bin, place) as server:
        done = [python_v1(server)]
        for optional in (node_v1, node_v2):
            try:
                done.append(optional(server))
            except Skipped as reason:
                print(f"skipped: {reason} (a part of influx_clients)", flush=True)
        return "; ".join(done)


def bits(value):
    return struct.pack(">d", float(value)).hex()


def python_v1(server):
    influxdb = package("influxdb")
    client = influxdb.InfluxDBClient(host="127.0.0.1", port=server.port, gzip=True)
    assert client.ping()
    client.create_database("v1")
    assert {"name": "v1"} in client.get_list_database(), client.get_list_database()
    client.switch_database("v1")
    points = [
        {"measurement": "hard", "tags": {"text": TEXT, "n": str(i)}, "time": TIMES[i % len(TIMES)],
         "fields": {"f": value, "i": INTEGERS[i % len(INTEGERS)], "s": TEXT, "b": i % 2 == 0, "empty": ""}}
        for i, value in enumerate(FLOATS)
    ]
    assert client.write_points(points, time_precision="n", batch_size=3)
    for epoch, unit in (("ns", 1), ("ms", 10**6)):
        found = list(client.query('SELECT f, i, s, b, empty, n, "text" FROM hard', epoch=epoch).get_points())
        assert len(found) == len(FLOATS), found
        for row in found:
            n = int(row["n"])
            # InfluxDB divides times as Go does: toward zero.
            at = TIMES[n % len(TIMES)]
            assert row["time"] == (at // unit if at >= 0 else -(-at // unit)), (epoch, row)
            # The answer says -0, which Python's JSON takes for the integer 0.
            assert bits(row["f"]) == bits(abs(FLOATS[n]) if FLOATS[n] == 0 else FLOATS[n]), row
            assert row["i"] == INTEGERS[n % len(INTEGERS)] and row["s"] == TEXT and row["text"] == TEXT, row
            assert row["b"] is (n % 2 == 0) and row["empty"] == "", row
    text_times = {row["time"] for row in client.query("SELECT f FROM hard").get_points()}
    assert "1969-12-31T23:59:59.999999999Z" in text_times and "2026-01-01T00:00:00.123456789Z" in text_times, text_times
    bound = client.query("SELECT f FROM hard WHERE n = $n", bind_params={"n": "3"}, epoch="ns")
    assert [bits(row["f"]) for row in bound.get_points()] == [bits(FLOATS[3])]
    chunks = client.query("SELECT f FROM hard", chunked=True, chunk_size=2, epoch="ns")
    assert sum(len(list(chunk.get_points())) for chunk in chunks) == len(FLOATS)
    tags = client.query("SHOW TAG VALUES FROM hard WITH KEY = n")
    assert sorted(row["value"] for row in tags.get_points()) == sorted(str(i) for i in range(len(FLOATS)))
    assert client.get_list_measurements() == [{"name": "hard"}]
    client.create_retention_policy("week", "7d", "1", database="v1")
    assert {p["name"]: p["duration"] for p in client.get_list_retention_policies("v1")} == {"autogen": "0s", "week": "168h0m0s"}
    for wrong, reason in (("SELECT", "error parsing query"), ("SELECT f FROM hard WHERE", "error parsing query")):
        try:
            client.query(wrong)
            raise AssertionError(f"{wrong} was answered")
        except influxdb.exceptions.InfluxDBClientError as error:
            assert error.code == 400 and reason in str(error), error
    try:
        client.write_points([{"measurement": "hard", "time": 1, "fields": {"f": "a text"}}])
        raise AssertionError("a text was written to a float")
    except influxdb.exceptions.InfluxDBClientError as error:
        assert error.code == 400 and "field type conflict" in str(error), error

    pandas = package("pandas")
    frames = influxdb.DataFrameClient(host="127.0.0.1", port=server.port, database="v1")
    index = pandas.to_datetime([1_767_225_600_000_000_001, 1_767_225_600_000_000_002], unit="ns", utc=True)
    frame = pandas.DataFrame({"f": [0.1, 1 / 3], "host": ["a", "b"]}, index=index)
    # The client formats with repr, which NumPy has made "np.float64(0.1)": what it writes then is refused, by InfluxDB as well.
    frame = frame.astype({"f": object})
    try:
        wrote = frames.write_points(frame, "frame", tag_columns=["host"])
    except influxdb.exceptions.InfluxDBClientError as error:
        assert "np.float64" in str(error), error
        wrote = False
    if wrote:
        back = frames.query("SELECT f FROM frame")["frame"]
        assert [bits(value) for value in back["f"]] == [bits(0.1), bits(1 / 3)], back
        assert [stamp.value for stamp in back.index] == [stamp.value for stamp in index], back
    try:
        client.query("DELETE FROM hard WHERE n = '0'")
        raise AssertionError("a GET deleted something")
    except influxdb.exceptions.InfluxDBClientError as error:
        assert error.code == 400 and "POST" in str(error), error
    client.query("DELETE FROM hard WHERE n = '0'", method="POST")
    assert len(list(client.query("SELECT f FROM hard").get_points())) == len(FLOATS) - 1
    client.drop_measurement("hard")
    client.drop_database("v1")
    assert {"name": "v1"} not in client.get_list_database()
    return f"influxdb {influxdb.__version__}: {len(FLOATS)} rows" + (", DataFrames" if wrote else "")


def node(script, modules, missing):
    program_ = program("node")
    if not (modules / "node_modules" / missing).is_dir():
        raise Skipped(f"{missing} for Node not found")
    path = modules / "influx_clients.mjs"
    path.write_text(script)
    done = subprocess.run([program_, path], capture_output=True, text=True, timeout=60, cwd=modules)
    path.unlink()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def node_v1(server):
    got = node(f'''import {{ InfluxDB, FieldType }} from "influx";
const text = {json.dumps(TEXT)}, floats = {json.dumps([repr(v) for v in FLOATS])}.map(Number);
const influx = new InfluxDB({{ host: "127.0.0.1", port: {server.port}, database: "nodev1" }});
const online = (await influx.ping(5000)).every((host) => host.online);
await influx.createDatabase("nodev1");
await influx.writePoints(floats.map((f, n) => ({{
  measurement: "hard", tags: {{ n: String(n), text }}, fields: {{ f, s: text, b: n % 2 === 0 }}, timestamp: String(1767225600123456789n + BigInt(n)),
}})), {{ precision: "n" }});
const rows = await influx.query('SELECT f, s, b, n, "text" FROM hard');
const grouped = await influx.query('SELECT count(f) FROM hard GROUP BY "text"');
const names = await influx.getDatabaseNames();
const measurements = await influx.getMeasurements();
await influx.createRetentionPolicy("day", {{ duration: "1d", replication: 1 }});
const policies = (await influx.showRetentionPolicies()).map((policy) => policy.name);
let failure = "";
try {{ await influx.query("SELECT"); }} catch (error) {{ failure = error.message; }}
await influx.dropDatabase("nodev1");
console.log(JSON.stringify({{ online, names, measurements, policies, failure, grouped: grouped.groups().map((g) => [g.tags.text, g.rows[0].count]),
  rows: rows.map((row) => [row.time.getNanoTime(), Object.is(row.f, -0) ? "-0" : String(row.f), row.s, row.b, row.n, row.text]) }}));
''', VENV.parent / "node", "influx")
    assert got["online"] and "nodev1" in got["names"] and got["measurements"] == ["hard"] and "day" in got["policies"], got
    assert "error parsing query" in got["failure"], got
    assert got["grouped"] == [[TEXT, len(FLOATS)]], got
    # JavaScript writes -0 as 0.
    want = [[str(1_767_225_600_123_456_789 + n), bits(value or 0.0), TEXT, n % 2 == 0, str(n), TEXT] for n, value in enumerate(FLOATS)]
    assert [[t, bits(f), *rest] for t, f, *rest in got["rows"]] == want, got["rows"]
    return f"influx for Node: {len(want)} rows"


def node_v2(server):
    got = node(f'''import {{ InfluxDB, Point, HttpError }} from "@influxdata/influxdb-client";
const text = {json.dumps(TEXT)}, floats = {json.dumps([repr(v) for v in FLOATS])}.map(Number);
const influx = new InfluxDB({{ url: "{server.url}", token: "any" }});
const write = influx.getWriteApi("any", "nodev2", "ns", {{ gzipThreshold: 100 }});
floats.forEach((f, n) => write.writePoint(new Point("hard").tag("n", String(n)).tag("text", text).floatField("f", f).stringField("s", text)
  .intField("i", "9007199254740991").uintField("u", "9007199254740991").booleanField("b", n % 2 === 0).timestamp(String(1767225600123456789n + BigInt(n)))));
await write.close();
let failure = "";
const failing = influx.getWriteApi("any", "nodev2", "ns", {{ maxRetries: 0, writeFailed: (error) => {{ failure = error.message; }} }});
failing.writeRecord('hard f="a text" 1');
await failing.close().catch(() => {{}});
console.log(JSON.stringify({{ failure }}));
''', VENV.parent / "node", "@influxdata/influxdb-client")
    assert "partial write" in got["failure"] or "unable to parse" in got["failure"], got
    from harness import request

    sql = 'SELECT CAST(time AS BIGINT) AS t, n, "text", f, s, i, u, b FROM hard ORDER BY time'
    status, answer = request(f"{server.url}/api/v3/query_sql", json.dumps({"db": "nodev2", "q": sql, "format": "json"}), {"Content-Type": "application/json"})
    assert status == 200, answer
    most = 2**53 - 1
    want = [[1_767_225_600_123_456_789 + n, str(n), TEXT, bits(value or 0.0), TEXT, most, most, n % 2 == 0] for n, value in enumerate(FLOATS)]
    rows = [[row["t"], row["n"], row["text"], bits(row["f"]), row["s"], row["i"], row["u"], row["b"]] for row in json.loads(answer)]
    assert rows == want, rows
    return f"influxdb-client for Node: {len(want)} rows"
