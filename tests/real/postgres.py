"""PostgreSQL's protocol with its own clients: psql, psycopg 3, asyncpg, pg8000 and Node's pg read exactly what was written."""
import asyncio
import datetime
import decimal
import json
import math
import os
import struct
import subprocess
import threading
import time
from pathlib import Path

from harness import VENV, Skipped, Tidelake, eventually, folder, free_port, package, program
from remote_write import send

NS = 10**9
BEGIN = 1_767_225_600  # 2026-01-01
EPOCH = datetime.datetime(1970, 1, 1)
# Floats by their bits, integers, unsigned integers, texts, times in nanoseconds.
HARD = [
    (0.0, 0, 0, "", BEGIN * NS),
    (-0.0, -1, 1, "plain", BEGIN * NS + 1),
    (5e-324, 2**63 - 1, 2**63, "it's \"quoted\"", BEGIN * NS + 1999),
    (-2.2250738585072014e-308, -(2**63), 2**64 - 1, "back\\slash, {braces} | tab\t", -1),
    (1.7976931348623157e308, 42, 10_000, "é ü 語 🌊", -1_500_000_000),
    (0.1, 7, 99_999_999, "NULL", -2_208_988_800 * NS),
    (1e15, 10, 12, "line\nbreak", BEGIN * NS + 123_456_789),
    (123456789012345.67, 11, 13, "\\N", BEGIN * NS + 10 * NS),
]


def bits(value):
    return struct.pack(">d", value)


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def fill(server):
    lines = [f"hard,host=h{n % 2} f={f!r},i={i}i,u={u}u,s={quoted(s)},b={'true' if n % 2 else 'false'} {t}" for n, (f, i, u, s, t) in enumerate(HARD)]
    lines.append(f"hard,host=h2 f=1 {(BEGIN + 20) * NS}")
    lines += [f"many,host=h{n % 10} v={n}i {(BEGIN + n) * NS}" for n in range(20_000)]
    server.lines("\n".join(lines))


def micros(ns):
    return EPOCH + datetime.timedelta(microseconds=ns // 1000)


def expected():
    """Rows in the order of their times, with what has no field."""
    rows = [(t, f"h{n % 2}", f, i, u, s, bool(n % 2)) for n, (f, i, u, s, t) in enumerate(HARD)]
    rows.append(((BEGIN + 20) * NS, "h2", 1.0, None, None, None, None))
    return sorted(rows, key=lambda row: row[0])


COLUMNS = "time, time::bigint AS ns, host, f, i, u, s, b"
QUERY = f"SELECT {COLUMNS} FROM hard ORDER BY hard.time"


def same(found, client):
    """The rows are those that were written, to the bit, times to the microsecond and as numbers to the nanosecond."""
    want = expected()
    assert len(found) == len(want), f"{client}: {len(found)} rows"
    for row, (t, host, f, i, u, s, b) in zip(found, want):
        at, ns, *rest = row
        assert at == micros(t), f"{client}: {at} is not {micros(t)}"
        assert ns == t, f"{client}: {ns} is not {t}"
        assert bits(rest[1]) == bits(f), f"{client}: {rest[1]!r} is not {f!r}"
        assert (rest[0], rest[2], rest[3], rest[4], rest[5]) == (host, i, u, s, b), f"{client}: {rest}"


def refused(state, call, error):
    """The call fails with this SQLSTATE."""
    try:
        call()
    except error as failure:
        found = getattr(failure, "sqlstate", None) or getattr(failure, "args", [{}])[0].get("C")
        assert found == state, f"{found} {failure}"
        return str(failure)
    raise AssertionError(f"no error {state}")


# --- psql


class Psql:
    def __init__(self, port, place):
        self.program, self.port, self.place = program("psql"), port, place

    def run(self, *commands, fails=False, flags=("-At",), database="default", **env):
        words = [self.program, "-X", *flags, "-h", "127.0.0.1", "-p", str(self.port), "-U", env.pop("user", "ann"), "-d", database]
        for command in commands:
            words += ["-c", command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=self.place, env={**os.environ, **env})
        assert (done.returncode != 0) == fails, f"{commands}: {done.returncode} {done.stdout} {done.stderr}"
        return (done.stdout if not fails else done.stderr).rstrip("\n")


def psql(port, place):
    client = Psql(port, place)
    shown = client.run(r"\d", flags=("-A",))
    assert "public|hard|table|tidelake" in shown and "public|many|table|tidelake" in shown, shown
    assert "public|hard|table|tidelake" in client.run(r"\dt")
    assert "metrics|up|table|tidelake" in client.run(r"\dt metrics.*"), client.run(r"\dt metrics.*")
    assert "public|hard|table|tidelake|permanent|heap" in client.run(r"\dt+"), client.run(r"\dt+")
    described = client.run(r"\d hard", flags=())
    for line in ["time   | timestamp without time zone |           | not null |", "host   | text", "f      | double precision", "u      | numeric", "b      | boolean"]:
        assert line in described, described
    assert 'Table "public.hard"' in client.run(r"\d+ hard", flags=())
    assert "default|tidelake|UTF8|C|C.UTF-8" in client.run(r"\l"), client.run(r"\l")
    assert client.run(r"\dn").splitlines() == ["metrics|tidelake", "public|tidelake"], client.run(r"\dn")
    for command in [r"\du", r"\dv", r"\di", r"\ds", r"\dm", r"\df", r"\dx", r"\dT", r"\dp", r"\db", r"\ddp", r"\dE", r"\dS", r"\dC", r"\des", r"\dRp", r"\conninfo", r"\encoding"]:
        client.run(command)
    for command in [r"\dconfig search_path", r"\dconfig+ search_path"]:
        assert "search_path|public" in client.run(command), client.run(command)
    assert len(client.run("TABLE hard").splitlines()) > len(HARD)
    assert client.run("SELECT 1", "SELECT 2; SELECT 3").splitlines() == ["1", "2", "3"]
    assert client.run("-- ping") == ""
    rows = client.run("SELECT time::bigint, f, i, u FROM hard ORDER BY hard.time", flags=("-At", "-F", ",")).splitlines()
    for row, (t, _, f, i, u, _, _) in zip(rows, expected()):
        ns, float_text, integer, unsigned = row.split(",")
        assert (int(ns), integer, unsigned) == (t, "" if i is None else str(i), "" if u is None else str(u)), row
        assert bits(float(float_text)) == bits(f), row
    assert client.run("SELECT time FROM hard WHERE i = 42") == "1969-12-31 23:59:58.5"
    zoned = client.run("SET TIME ZONE 'Europe/Berlin'", "SELECT '2026-07-01 10:00:00Z'::timestamptz", "SHOW timezone").splitlines()
    assert zoned == ["SET", "2026-07-01 12:00:00+02", "Europe/Berlin"], zoned
    special = client.run("SELECT 'NaN'::float8, 'Infinity'::float8, -'Infinity'::float8, ARRAY[1,NULL,3], interval '1 month 2 days 3 hours'")
    assert special == "NaN|Infinity|-Infinity|{1,NULL,3}|1 mon 2 days 03:00:00", special
    error = client.run("SELECT f FROM\nhard WHERE nothing = 1", fails=True)
    assert "LINE 2: hard WHERE nothing = 1" in error and "^" in error, error
    error = client.run("SELECT 1 +* 2", fails=True, flags=("-At", "-v", "VERBOSITY=verbose"))
    assert "42601" in error and "LINE 1: SELECT 1 +* 2" in error and "^" in error, error
    error = client.run("INSERT INTO hard VALUES (1)", fails=True)
    assert "line protocol" in error, error
    for statement in ["COPY hard TO '/tmp/tidelake-copy'", "COPY hard TO PROGRAM 'cat'", "COPY hard FROM '/etc/passwd'"]:
        client.run(statement, fails=True)
    assert not Path("/tmp/tidelake-copy").exists()
    assert 'database "nowhere" does not exist' in client.run("SELECT 1", fails=True, database="nowhere")
    client.run(r"\copy (SELECT host, f, s FROM hard ORDER BY hard.time) TO 'out.csv' CSV HEADER")
    import csv

    with open(Path(place) / "out.csv", newline="") as file:
        header, *copied = list(csv.reader(file))
    assert header == ["host", "f", "s"], header
    for row, (_, host, f, _, _, s, _) in zip(copied, expected()):
        assert row[0] == host and bits(float(row[1])) == bits(f) and row[2] == (s or ""), row
    return client.run("SHOW server_version")


# --- psycopg 3


def psycopg_client(port):
    psycopg = package("psycopg")
    address = f"host=127.0.0.1 port={port} user=ann dbname=default"
    with psycopg.connect(address, autocommit=True) as connection:
        for binary in (False, True):
            with connection.cursor(binary=binary) as cursor:
                same(cursor.execute(QUERY).fetchall(), f"psycopg binary={binary}")
                assert [column.type_code for column in cursor.description] == [1114, 20, 25, 701, 20, 1700, 25, 16]
                found = cursor.execute(
                    "SELECT count(*) FROM hard WHERE host = %s AND f > %s AND time >= %s AND b = %s AND u < %s",
                    ("h1", -1.0, EPOCH - datetime.timedelta(days=40_000), True, decimal.Decimal(2**64)),
                ).fetchone()
                assert found == (4,), found
                for text in ("it's", 'q"', "\\", "'; DROP TABLE hard; --", "é"):
                    assert cursor.execute("SELECT %s::text", (text,)).fetchone() == (text,)
                values = [1, -(2**63), 2**63 - 1, 1.5, -0.0, True, None, "x", [1, 2], ["a", "b c"], datetime.date(2026, 1, 1), decimal.Decimal("1.50")]
                for value in values:
                    kind = "" if not isinstance(value, list) else "text[]" if value[0] == "a" else "int8[]"
                    found = cursor.execute(f"SELECT %s{'::' + kind if kind else ''}", (value,)).fetchone()[0]
                    assert found == value and type(found) is type(value), (value, found)
                special = cursor.execute("SELECT 'NaN'::float8, 'Infinity'::float8, -'Infinity'::float8").fetchone()
                assert math.isnan(special[0]) and special[1:] == (math.inf, -math.inf), special
        # Prepared: the sixth time by name.
        for n in range(8):
            found = connection.execute("SELECT max(v) FROM many WHERE host = %s", (f"h{n}",), prepare=True).fetchone()
            assert found == (19_990 + n,), found
        assert connection.execute("SELECT 1; SELECT 2").nextset() is True
        refused("42P01", lambda: connection.execute("SELECT * FROM nothing"), psycopg.Error)
        refused("42703", lambda: connection.execute("SELECT nothing FROM hard"), psycopg.Error)
        refused("42601", lambda: connection.execute("SELEC 1"), psycopg.Error)
        refused("0A000", lambda: connection.execute("INSERT INTO hard VALUES (1)"), psycopg.Error)
        refused("42601", lambda: connection.execute("SELECT 1; SELECT %s", (2,)), psycopg.Error)
        refused("42704", lambda: connection.execute("SET nothing = 1"), psycopg.Error)

        for form in ("TEXT", "CSV", "BINARY"):
            with connection.cursor().copy(f"COPY (SELECT host, f, i, s FROM hard ORDER BY hard.time) TO STDOUT (FORMAT {form})") as copy:
                if form == "CSV":
                    assert sum(bytes(chunk).count(b"\n") for chunk in copy) >= 10
                    continue
                copy.set_types(["text", "float8", "int8", "text"])
                rows = list(copy.rows())
            for (host, f, i, s), (_, host_, f_, i_, _, s_, _) in zip(rows, expected()):
                assert (host, bits(f), i, s) == (host_, bits(f_), i_, s_), (form, host, f, i, s)
        with connection.cursor().copy("COPY many TO STDOUT") as copy:
            assert sum(bytes(chunk).count(b"\n") for chunk in copy) == 20_000

    # Cursors in a transaction: rows come as they are asked for.
    with psycopg.connect(address) as connection:
        for binary in (False, True):
            with connection.cursor("cur", binary=binary) as cursor:
                cursor.itersize = 1000
                cursor.execute("SELECT v FROM many WHERE v >= %s ORDER BY v", (10,))
                assert [column.name for column in cursor.description] == ["v"]
                assert cursor.fetchmany(3) == [(10,), (11,), (12,)]
                assert sum(1 for _ in cursor) == 19_987
        refused("42P01", lambda: connection.execute("SELECT * FROM nothing"), psycopg.Error)
        refused("25P02", lambda: connection.execute("SELECT 1"), psycopg.Error)
        connection.rollback()
        with connection.transaction():
            assert connection.info.transaction_status.name == "INTRANS"
            with connection.transaction():
                connection.execute("SELECT 1")
        connection.execute("SET LOCAL application_name = 'inner'")
        connection.commit()
        assert connection.info.parameter_status("application_name") != "inner"

    # Settings are those of one connection.
    with psycopg.connect(address, autocommit=True) as one, psycopg.connect(address, autocommit=True) as other:
        one.execute("SET TimeZone = 'Asia/Kolkata'")
        shown = "SELECT '2026-01-01 00:00:00Z'::timestamptz::text, current_setting('timezone')"
        assert one.execute("SHOW timezone").fetchone() == ("Asia/Kolkata",)
        assert other.execute(shown).fetchone()[1] == "UTC"
        zoned = one.execute("SELECT '2026-01-01 00:00:00Z'::timestamptz").fetchone()[0]
        assert zoned.utcoffset() == datetime.timedelta(hours=5, minutes=30) and zoned.timestamp() == BEGIN, zoned

    # A query ends when it is asked to, when its time is over, and with its connection.
    long = "SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 100000) b"
    with psycopg.connect(address, autocommit=True) as connection:
        timer = threading.Timer(0.5, connection.cancel)
        timer.start()
        begun = time.monotonic()
        message = refused("57014", lambda: connection.execute(long), psycopg.Error)
        assert "user request" in message and time.monotonic() - begun < 5, message
        connection.execute("SET statement_timeout = '300ms'")
        message = refused("57014", lambda: connection.execute(long), psycopg.Error)
        assert "statement_timeout = 300" in message, message
        assert connection.execute("SELECT 1").fetchone() == (1,)
    return psycopg.__version__


# --- asyncpg


async def asyncpg_session(asyncpg, port):
    pool = await asyncpg.create_pool(host="127.0.0.1", port=port, user="ann", database="default", min_size=2, max_size=5)
    async with pool.acquire() as connection:
        same([tuple(row) for row in await connection.fetch(QUERY)], "asyncpg")
        found = await connection.fetchval("SELECT count(*) FROM hard WHERE host = $1 AND f > $2 AND time >= $3", "h1", -1.0, EPOCH)
        assert found == 2, found
        found = await connection.fetchval("SELECT count(*) FROM many WHERE host = ANY($1::text[]) AND v = ANY($2::int8[])", ["h1", "h2"], [1, 2, 3])
        assert found == 2, found
        assert len(await connection.fetch("SELECT v FROM many LIMIT $1", 5)) == 5
        async with connection.transaction():
            total = 0
            async for row in connection.cursor("SELECT v FROM many ORDER BY v", prefetch=500):
                total += row["v"]
            assert total == sum(range(20_000)), total
        prepared = await connection.prepare("SELECT $1::float8 AS f, $2::text AS s, $3::timestamptz AS t, $4::bool AS b, $5::numeric AS n")
        zoned = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
        row = await prepared.fetchrow(-0.0, "é'", zoned, True, decimal.Decimal("0.10"))
        assert bits(row["f"]) == bits(-0.0) and row["s"] == "é'" and row["t"] == zoned and row["b"] is True and row["n"] == decimal.Decimal("0.10"), row
        try:
            await connection.fetch("SELECT * FROM nothing")
            raise AssertionError("no error")
        except asyncpg.UndefinedTableError:
            pass
        copied = bytearray()

        async def collect(data):
            copied.extend(data)

        await connection.copy_from_query("SELECT v FROM many ORDER BY v", output=collect, format="csv")
        assert copied.count(b"\n") == 20_000

    async def one(n):
        async with pool.acquire() as connection:
            return await connection.fetchval("SELECT max(v) FROM many WHERE host = $1", f"h{n % 10}")

    assert await asyncio.gather(*(one(n) for n in range(40))) == [19_990 + n % 10 for n in range(40)]
    await asyncio.wait_for(pool.close(), 10)
    return asyncpg.__version__


def asyncpg_client(port):
    return asyncio.run(asyncpg_session(package("asyncpg"), port))


# --- pg8000


def pg8000_client(port):
    pg8000 = package("pg8000")
    import pg8000.native

    connection = pg8000.native.Connection("ann", host="127.0.0.1", port=port, database="default")
    same([tuple(row) for row in connection.run(QUERY)], "pg8000")
    found = connection.run("SELECT count(*) FROM hard WHERE host = :h AND f > :f", h="h1", f=-1.0)
    assert found == [[4]], found
    assert connection.run("SELECT :t", t="é'\\") == [["é'\\"]]
    refused("42P01", lambda: connection.run("SELECT * FROM nothing"), pg8000.exceptions.DatabaseError)
    connection.close()
    return pg8000.__version__


# --- Node


NODE = """
const { Client, Pool } = require('pg');
const [port, query] = process.argv.slice(2);
(async () => {
  const settings = { host: '127.0.0.1', port: Number(port), user: 'ann', database: 'default' };
  const client = new Client(settings);
  await client.connect();
  const { rows } = await client.query({ text: query, types: { getTypeParser: () => (text) => text } });
  const counted = await client.query('SELECT count(*) AS n FROM hard WHERE host = $1 AND f > $2 AND time >= $3', ['h1', -1.5, new Date(0)]);
  const named = [];
  for (let n = 0; n < 3; n++) named.push((await client.query({ name: 'q', text: 'SELECT max(v) AS m FROM many WHERE host = $1', values: ['h' + n] })).rows[0].m);
  let code = null;
  try { await client.query('SELECT * FROM nothing'); } catch (error) { code = error.code; }
  const echo = (await client.query("SELECT $1::text AS s", ["it's \\\\ é"])).rows[0].s;
  await client.end();
  const pool = new Pool({ ...settings, max: 3 });
  const all = await Promise.all(Array.from({ length: 12 }, (_, n) => pool.query('SELECT $1::int8 AS n', [n])));
  await pool.end();
  console.log(JSON.stringify({ rows, n: counted.rows[0].n, named, code, echo, pool: all.map((a) => a.rows[0].n) }));
})().catch((error) => { console.error(error); process.exit(1); });
"""


def node_client(port, place):
    node, modules = program("node"), VENV.parent / "node" / "node_modules"
    if not (modules / "pg").exists():
        raise Skipped("Node package pg not found")
    script = Path(place) / "client.js"
    script.write_text(NODE)
    done = subprocess.run([node, script, str(port), QUERY], capture_output=True, text=True, timeout=120, env={**os.environ, "NODE_PATH": str(modules)})
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    convert = lambda row: (
        datetime.datetime.fromisoformat(row["time"]),
        int(row["ns"]),
        row["host"],
        float(row["f"]),
        None if row["i"] is None else int(row["i"]),
        None if row["u"] is None else int(row["u"]),
        row["s"],
        None if row["b"] is None else row["b"] == "t",
    )
    same([convert(row) for row in answer["rows"]], "node pg")
    assert answer["n"] == "2" and answer["named"] == ["19990", "19991", "19992"], answer
    assert answer["code"] == "42P01" and answer["echo"] == "it's \\ é", answer
    assert answer["pool"] == [str(n) for n in range(12)], answer
    return json.loads((modules / "pg" / "package.json").read_text())["version"]


# --- pgJDBC


def jdbc_client(port, place):
    javac, java = program("javac"), program("java")
    jars = [jar for name in ("postgresql", "scram-client", "scram-common", "stringprep") if (jar := Path(f"/usr/share/java/{name}.jar")).exists()]
    if not jars:
        raise Skipped("/usr/share/java/postgresql.jar not found")
    path = ":".join(map(str, [place, *jars]))
    source = Path(__file__).parent / "postgres_jdbc" / "Client.java"
    subprocess.run([javac, "-cp", path, "-d", place, source], check=True, capture_output=True, timeout=120)
    done = subprocess.run([java, "-cp", path, "Client", f"jdbc:postgresql://127.0.0.1:{port}/default", "ann"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    for line in [
        "schemas 4 ",
        "catalogs 1 default|",
        "tables 2 null|public|hard|TABLE|",
        "columns 7 null|public|hard|host|12|text| null|public|hard|time|93|timestamp| null|public|hard|f|8|float8| ",
        "keys 0",
        "prepared 2",
        "fetched 199990000",
        "error 42P01",
        "valid true",
    ]:
        assert line in said, f"{line} is not in {said}"
    return said.splitlines()[0].removeprefix("product ")


def run(options):
    port = free_port()
    with folder() as place, Tidelake(options.bin, place, more=["--pg-listen", f"127.0.0.1:{port}"]) as server:
        fill(server)
        server.post("/admin/flush")
        send(server.url, [({"__name__": "up", "job": "x"}, [(BEGIN * 1000, 1.0)])])
        eventually("the metric is there", lambda: server.sql("SELECT count(*) AS n FROM metrics.up")[0]["n"] == 1)
        clients = {
            "psql": lambda: psql(port, place),
            "psycopg": lambda: psycopg_client(port),
            "asyncpg": lambda: asyncpg_client(port),
            "pg8000": lambda: pg8000_client(port),
            "node pg": lambda: node_client(port, place),
            "pgJDBC": lambda: jdbc_client(port, place),
        }
        done, missing = [], []
        for name, client in clients.items():
            try:
                done.append(f"{name} {client()}")
            except Skipped as reason:
                missing.append(str(reason))
        if not done:
            raise Skipped("; ".join(missing))
        return ", ".join(done) + (f"; skipped: {'; '.join(missing)}" if missing else "")

