"""Who gets in through PostgreSQL's port, with what, and for how long: SCRAM, TLS, rights, limits, and bytes that are no protocol."""
import os
import random
import socket
import struct
import subprocess
import threading
import time

from front_door import Certificates, Secured, command, first_token
from harness import Tidelake, eventually, folder, free_port, package, program, request

LONG = "SELECT count(*) FROM generate_series(1, 100000000) a, generate_series(1, 100000) b"


def state_of(call, error):
    """The SQLSTATE that a call fails with, and its message."""
    try:
        call()
    except error as failure:
        return failure.sqlstate, str(failure)
    return None, None


def tokens(options):
    """Names and secrets of tokens; rights per database; revocation while connections are open."""
    psycopg, port = package("psycopg"), free_port()
    with folder() as place, Tidelake(options.bin, place, more=["--auth", "--pg-listen", f"127.0.0.1:{port}"]) as server:
        admin = first_token(server)
        store = ["--data-dir", server.data]
        reader = command(options, "create", "reader", "--scope", "team-a:read", *store).strip()
        header = {"Authorization": f"Bearer {admin}"}
        for database in ("team-a", "team-b"):
            status, answer = request(f"{server.url}/write?db={database}", "m v=1i 1700000000000000000", header)
            assert status == 204, answer

        def connect(user, password, database="team-a"):
            return psycopg.connect(host="127.0.0.1", port=port, user=user, password=password, dbname=database, autocommit=True, connect_timeout=10)

        def refused(user, password, database="team-a"):
            try:
                connect(user, password, database).close()
            except psycopg.OperationalError as failure:
                return str(failure)
            raise AssertionError("it was let in")

        eventually("the token is known", lambda: not connect("reader", reader).close(), 5)
        for user, password in [("reader", reader[:-1] + "x"), ("nobody", reader), ("reader", ""), ("_admin", reader)]:
            message = refused(user, password)
            assert "authentication failed" in message or "no password" in message, message
        assert "permission denied" in refused("reader", reader, "team-b")
        assert "permission denied" in refused("reader", reader, "nothing-there")
        assert "does not exist" in refused("_admin", admin, "nothing-there")

        with connect("reader", reader) as connection, connect("_admin", admin) as boss:
            assert connection.execute("SELECT v, current_user FROM m").fetchall() == [(1, "reader")]
            assert connection.execute("SELECT datname FROM pg_database").fetchall() == [("team-a",)]
            for statement in ["DELETE FROM m", "DROP TABLE m", "ALTER TABLE m SET (retention = '1d')", "DROP DATABASE \"team-b\""]:
                state, message = state_of(lambda: connection.execute(statement), psycopg.Error)
                assert state == "42501", f"{statement}: {state} {message}"
            state, _ = state_of(lambda: connection.execute('SELECT * FROM "team-b".public.m'), psycopg.Error)
            assert state == "42P01", state
            for statement in ["ALTER TABLE m SET (retention = '36500d')", "DELETE FROM m WHERE time < '1990-01-01'"]:
                boss.execute(statement)
            audited = [row["action"] for row in audit(server, admin)]
            assert "delete" in audited and "set_retention" in audited, audited
            command(options, "revoke", "reader", *store)
            # Each statement asks whether the token still counts.
            eventually("the revoked token reads nothing", lambda: state_of(lambda: connection.execute("SELECT 1"), psycopg.Error)[0] == "28000" or connection.closed, 5)
        assert "authentication failed" in refused("reader", reader)
        assert admin not in server.log.read_text() and reader not in server.log.read_text()


def audit(server, token):
    import json

    body = json.dumps({"db": "_internal", "q": "SELECT action FROM audit", "format": "json"})
    status, text = request(f"{server.url}/api/v3/query_sql", body, {"Content-Type": "application/json", "Authorization": f"Bearer {token}"})
    assert status == 200, text
    return json.loads(text)


def tls(options):
    """psql with and without TLS; the proof is bound to the certificate."""
    psql, port = program("psql"), free_port()
    with folder() as place:
        certificates = Certificates(place)
        certificates.issue("server", "DNS:localhost,IP:127.0.0.1")
        certificates.issue("client", "DNS:reader")
        more = ["--auth", "--pg-listen", f"127.0.0.1:{port}"]
        with Secured(options.bin, place, certificates, more=more) as server:
            admin = first_token(server)
            server.ask("/write?db=default", admin, "POST", "m v=1i 1700000000000000000")

            def run(sslmode, password=admin, user="_admin", more=""):
                address = f"host=127.0.0.1 port={port} user={user} dbname=default sslmode={sslmode} sslrootcert={certificates.path('ca.pem')} {more}"
                environment = {**os.environ, "PGPASSWORD": password}
                done = subprocess.run([psql, "-X", "-Atc", "SELECT v FROM m", address], capture_output=True, text=True, timeout=30, env=environment)
                return done.stdout.strip() if done.returncode == 0 else done.stderr

            assert run("verify-full") == "1", run("verify-full")
            assert run("verify-full", more="channel_binding=require") == "1", run("verify-full", more="channel_binding=require")
            assert run("require", more="channel_binding=disable") == "1"
            assert "TLS only" in run("disable"), run("disable")
            assert "authentication failed" in run("require", password="x" * 40), run("require", password="x" * 40)
            ok, said = certificates.s_client(port, "-starttls", "postgres")
            assert ok and "TLSv1.3" in said, said
            # TLS at once, as PostgreSQL 17's clients can, needs the protocol to be named.
            ok, said = certificates.s_client(port, "-alpn", "postgresql")
            assert ok and "ALPN protocol: postgresql" in said, said
            # Bytes that come in clear text behind the request for TLS are not taken for encrypted ones.
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(struct.pack(">ii", 8, 80877103) + b"x" * 20)
                assert connection.recv(1) in (b"S", b""), "no answer"
                assert connection.recv(1) == b"", "it went on"
        # A certificate stands for the token of its name.
        more += ["--tls-client-ca", certificates.path("ca.pem")]
        with Secured(options.bin, place, certificates, client="client", more=more) as server:
            reader = command(options, "create", "reader", "--scope", "default:read", "--data-dir", server.data)
            assert reader
            shown = f"sslcert={certificates.path('client.pem')} sslkey={certificates.path('client.key')}"
            os.chmod(certificates.path("client.key"), 0o600)

            def run(user, more):
                address = f"host=127.0.0.1 port={port} user={user} dbname=default sslmode=verify-full sslrootcert={certificates.path('ca.pem')} {more}"
                done = subprocess.run([psql, "-X", "-w", "-Atc", "SELECT v FROM m", address], capture_output=True, text=True, timeout=30)
                return done.stdout.strip() or done.stderr

            eventually("the certificate is known", lambda: run("reader", shown) == "1", 5)
            assert "password" in run("_admin", shown), run("_admin", shown)
            assert "1" != run("reader", ""), "without a certificate"


class Raw:
    """The protocol by hand."""

    def __init__(self, port, user="ann", database="default", begin=True):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        if begin:
            body = struct.pack(">i", 196608) + f"user\0{user}\0database\0{database}\0\0".encode()
            self.socket.sendall(struct.pack(">i", len(body) + 4) + body)
            self.until(b"Z")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def message(self):
        tag, length = struct.unpack(">ci", self.read(5))
        return tag, self.read(length - 4)

    def until(self, tag):
        """The messages up to one of a type."""
        messages = []
        while not messages or messages[-1][0] != tag:
            messages.append(self.message())
        return messages

    def send(self, tag, body=b""):
        self.socket.sendall(tag + struct.pack(">i", len(body) + 4) + body)

    def query(self, text):
        self.send(b"Q", text.encode() + b"\0")


def limits(options):
    """Places for queries, readers that do not read, portals that are left, messages that are none."""
    psycopg, port = package("psycopg"), free_port()
    more = ["--pg-listen", f"127.0.0.1:{port}", "--max-concurrent-queries", "3", "--query-queue-ms", "300", "--write-timeout-ms", "1500"]
    more += ["--head-timeout-ms", "1000", "--max-connections", "60", "--max-connections-per-peer", "40"]
    with folder() as place, Tidelake(options.bin, place, more=more) as server:
        server.lines("\n".join(f"wide s=\"{'x' * 1000}\",v={n}i {n}" for n in range(4000)))
        connect = lambda: psycopg.connect(host="127.0.0.1", port=port, user="ann", dbname="default", autocommit=True)

        # Places: the fourth query waits, and is then told to come again.
        held = [connect() for _ in range(3)]
        threads = [threading.Thread(target=state_of, args=(lambda c=c: c.execute(LONG), psycopg.Error)) for c in held]
        for thread in threads:
            thread.start()
        with connect() as connection:
            refused = lambda: state_of(lambda: connection.execute("SELECT 1"), psycopg.Error)
            eventually("no place is free", lambda: refused()[0] == "57P03", 10)
            assert "max_concurrent_queries" in refused()[1]
            for one in held:
                one.cancel()
            for thread in threads:
                thread.join(10)
            assert connection.execute("SELECT 1").fetchone() == (1,)
        for one in held:
            one.close()

        # A client that goes away takes its query with it.
        gone = Raw(port)
        gone.query(LONG)
        time.sleep(0.5)
        gone.socket.close()
        running = lambda: metric(server, "tidelake_queries_running")
        eventually("its query has ended", lambda: running() == 0, 10)

        # A client that takes nothing loses its query and its connection.
        with Raw(port) as stuck:
            stuck.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.query("SELECT a.s FROM wide a, wide b")
            eventually("the query of a client that does not read has ended", lambda: metric(server, 'tidelake_queries_ended_total{language="sql",outcome="stalled"}') >= 1, 20)
        assert running() == 0

        # A cursor of which nothing is fetched loses its query, and says why.
        with psycopg.connect(host="127.0.0.1", port=port, user="ann", dbname="default") as connection:
            cursor = connection.cursor("left")
            cursor.execute("SELECT a.s FROM wide a, wide b")
            assert len(cursor.fetchmany(2)) == 2
            assert running() == 1
            eventually("it has ended", lambda: running() == 0, 10)
            state, message = state_of(lambda: cursor.fetchmany(2), psycopg.Error)
            assert state == "57014" and "write_timeout_ms = 1500" in message, message
            connection.rollback()

        # Prepared statements and portals have limits.
        with Raw(port) as many:
            for n in range(1100):
                many.send(b"P", f"s{n}\0SELECT 1\0".encode() + b"\0\0")
            many.send(b"S")
            states = [body for tag, body in many.until(b"Z") if tag == b"E"]
            assert len(states) == 1 and b"C54000" in states[0] and b"1000 prepared statements" in states[0], states[:1]
            many.query("SELECT 1")
            assert [tag for tag, _ in many.until(b"Z")] == [b"T", b"D", b"C", b"Z"]
            many.send(b"Q", b"SELECT 1;" * 1001 + b"\0")
            assert any(b"C54000" in body for tag, body in many.until(b"Z") if tag == b"E")
        # What follows an error is void until the next Sync.
        with Raw(port) as other:
            other.send(b"P", b"\0SELEC\0\0\0")
            other.send(b"B", b"\0\0\0\0\0\0\0\0")
            other.send(b"E", b"\0\0\0\0\0")
            other.send(b"E", b"\0\0\0\0\0")
            other.send(b"S")
            assert [tag for tag, _ in other.until(b"Z")] == [b"1", b"2", b"E", b"Z"]

        # Who connects and says nothing is not waited for; who says too much is not listened to.
        begun = time.monotonic()
        with Raw(port, begin=False) as silent:
            assert silent.socket.recv(10) == b"" and time.monotonic() - begun < 5
        for junk in (b"GET / HTTP/1.1\r\n\r\n", struct.pack(">ii", 2**31 - 1, 196608), struct.pack(">i", 3), b"\x16\x03\x01\x00\x05hello"):
            with Raw(port, begin=False) as bad:
                bad.socket.sendall(junk)
                try:
                    while bad.socket.recv(1000):
                        pass
                except ConnectionError:
                    pass
        with Raw(port) as huge:
            huge.socket.sendall(b"Q" + struct.pack(">i", 1 << 30))
            assert any(b"FATAL" in body for _, body in huge.until(b"E"))
        dice = random.Random(7)
        for _ in range(300):
            with Raw(port) as bad:
                tag = bytes([dice.choice(b"QPBDECHSXpdcfF?")])
                body = bytes(dice.choices(b"\0\1\xff PS", k=dice.randrange(30)))
                bad.send(tag, body)
                bad.send(b"X")
                try:
                    while bad.socket.recv(1000):
                        pass
                except ConnectionError:
                    pass
        assert metric(server, "tidelake_panics_total") == 0

        # Connections have a limit, and those beyond it are told so.
        held = [Raw(port) for _ in range(38)]
        failed = None
        for _ in range(10):
            try:
                held.append(Raw(port))
            except (EOFError, ConnectionError, KeyError):
                failed = True
        assert failed, "all were let in"
        message = ""
        try:
            connect().close()
        except psycopg.OperationalError as failure:
            message = str(failure)
        assert "max_connections" in message, message
        for one in held:
            one.socket.close()

        def is_let_in():
            try:
                connect().close()
            except psycopg.OperationalError:
                return False
            return True

        eventually("there is room again", is_let_in, 10)
        server.check_alive()

        # At a stop, idle sessions are told so.
        idle = connect()
        server.stop()
        state, message = state_of(lambda: idle.execute("SELECT 1"), psycopg.Error)
        assert state in ("57P01", None) and "stops" in message or idle.closed, message


def metric(server, name):
    status, text = request(f"{server.url}/metrics")
    assert status == 200, text
    for line in text.splitlines():
        found, _, value = line.rpartition(" ")
        if found == name:
            return float(value)
    return 0


def run(options):
    limits(options)
    tokens(options)
    tls(options)
    return "limits, SCRAM, TLS with channel binding, revocation"
