"""Tokens and TLS, with openssl's and Python's clients: who gets in, with what, and for how long."""
import base64
import http.client
import json
import os
import socket
import ssl
import stat
import subprocess
import time
from pathlib import Path

from harness import Tidelake, eventually, folder, program, request

NODE = ("--node", "other")


class Certificates:
    """Two authorities, servers and clients, made by openssl."""

    def __init__(self, place):
        self.place, self.openssl = Path(place), program("openssl")
        self.authority("ca")
        self.authority("stranger")

    def path(self, name):
        return self.place / name

    def run(self, *words):
        subprocess.run([self.openssl, *map(str, words)], check=True, capture_output=True, cwd=self.place)

    def authority(self, name):
        self.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")

    def issue(self, name, alternative, by="ca"):
        self.run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self.path("extensions").write_text(f"subjectAltName={alternative}\n")
        self.run("x509", "-req", "-in", f"{name}.csr", "-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-CAcreateserial", "-days", "30", "-extfile", "extensions", "-out", f"{name}.pem")

    def replace(self, name, new):
        """Puts another certificate in the place of one, as a renewal does."""
        for end in (".key", ".pem"):
            os.replace(self.path(new + end), self.path(name + end))

    def serial(self, port):
        pem = ssl.get_server_certificate(("127.0.0.1", port))
        return ssl.PEM_cert_to_DER_cert(pem)

    def s_client(self, port, *flags):
        """(whether a handshake succeeds, what openssl says of it)"""
        words = [self.openssl, "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", "ca.pem", "-verify_return_error", *flags]
        done = subprocess.run(words, input=b"", capture_output=True, cwd=self.place, timeout=30)
        return done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")

    def context(self, client=None):
        context = ssl.create_default_context(cafile=self.path("ca.pem"))
        if client:
            context.load_cert_chain(self.path(f"{client}.pem"), self.path(f"{client}.key"))
        return context


class Secured(Tidelake):
    """A server that speaks TLS; `client` names the certificate that the test shows."""

    def __init__(self, binary, place, certificates, client=None, more=()):
        self.context = certificates.context(client)
        files = ["--tls-cert", certificates.path("server.pem"), "--tls-key", certificates.path("server.key")]
        super().__init__(binary, place, more=[*files, *more])

    def connect(self, context=None):
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=context or self.context, timeout=20)

    def ask(self, path, token=None, method="GET", body=None, context=None):
        connection = self.connect(context)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def ready(self):
        self.check_alive()
        return self.ask("/ready")[0] == 200


def command(options, *words):
    """What `tidelake token` prints."""
    done = subprocess.run([options.bin, "token", *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def first_token(server):
    path = server.data / "admin-token"
    mode = stat.S_IMODE(path.stat().st_mode)
    assert mode == 0o600, oct(mode)
    return path.read_text().strip()


def tokens(options):
    """Tokens over plain HTTP: every way to show one; rotation and revocation, in two processes."""
    with folder() as place, Tidelake(options.bin, place, more=["--auth"]) as server:
        admin = first_token(server)
        assert admin not in server.log.read_text(), "the log has the secret"
        store = ["--data-dir", server.data]
        writer = command(options, "create", "writer", "--scope", "team-*:write", *store).strip()
        line = "m,host=a value=1 1700000000000000000"

        def write(headers=None, **params):
            query = "&".join(f"{k}={v}" for k, v in {"db": "team-a", **params}.items())
            return request(f"{server.url}/write?{query}", line, headers)[0]

        def header(text):
            return {"Authorization": text}

        eventually("the token is known", lambda: write(header(f"Bearer {writer}")) == 204, 2)
        basic = base64.b64encode(f"anyone:{writer}".encode()).decode()
        for headers, params in [
            (header(f"Bearer {writer}"), {}),
            (header(f"Token {writer}"), {}),
            (header(f"Basic {basic}"), {}),
            ({}, {"token": writer}),
            ({}, {"p": writer}),
            ({}, {"u": "anyone", "p": writer}),
        ]:
            assert write(headers, **params) == 204, (headers, params)
        for headers, params, status in [
            ({}, {}, 401),
            (header("Token "), {}, 401),
            (header(f"Bearer {writer}x"), {}, 401),
            (header(f"Bearer {writer}"), {"db": "other"}, 403),
            ({}, {"p": ""}, 401),
        ]:
            assert write(headers, **params) == status, (headers, params)
        assert request(f"{server.url}/api/v1/query?query=m_value", headers=header(f"Bearer {writer}"))[0] == 403

        # What is not let in is not decoded: a body that would be refused as too large is not read.
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"POST /api/v1/write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 401"), "a body is waited for"
        assert time.monotonic() - begun < 2

        # As InfluxDB 3's clients make and list them.
        api = f"{server.url}/api/v3/configure/token"
        status, made = request(f"{api}/named_admin", json.dumps({"token_name": "ops", "expiry_secs": 3600}), header(f"Bearer {admin}"))
        assert status == 201, made
        ops = json.loads(made)["token"]
        status, listed = request(api, headers=header(f"Bearer {ops}"))
        names = [token["name"] for token in json.loads(listed)]
        assert status == 200 and names == ["_admin", "writer", "ops"], listed
        assert not any(secret in listed for secret in (admin, writer, ops)), "the list has secrets"
        assert request(api, headers=header(f"Bearer {writer}"))[0] == 403

        # Another process on the folder notices what this one does, within a second.
        with folder() as elsewhere, Tidelake(options.bin, elsewhere, store=store, more=["--auth", *NODE]) as other:
            def at(base, secret):
                return request(f"{base}/api/v3/configure/database?format=json", headers=header(f"Bearer {secret}"))[0]

            assert at(other.url, ops) == 200
            rotated = command(options, "create", "writer", "--scope", "team-*:write", "--replace", *store).strip()
            eventually("the new secret counts", lambda: at(other.url, rotated) == 200, 2)
            eventually("the old one does not", lambda: at(other.url, writer) == 401, 1)
            assert request(f"{api}?token_name=ops", headers=header(f"Bearer {admin}"), method="DELETE")[0] == 200
            assert at(server.url, ops) == 401
            begun = time.monotonic()
            eventually("the revocation counts elsewhere", lambda: at(other.url, ops) == 401, 1.5)
            took = time.monotonic() - begun
        listed = command(options, "list", *store)
        assert rotated not in listed and "team-*:write" in listed, listed
        return took


def tls(options):
    """Versions, protocols, client certificates, and certificates that change."""
    with folder() as place:
        certificates = Certificates(place)
        certificates.issue("server", "IP:127.0.0.1,DNS:localhost")
        with Secured(options.bin, place, certificates, more=["--auth"]) as server:
            admin = first_token(server)
            for flags, works in [(["-tls1_2"], True), (["-tls1_3"], True), (["-tls1_1"], False)]:
                done, said = certificates.s_client(server.port, *flags)
                assert done == works, f"{flags}: {said}"
            assert "ALPN protocol: h2" in certificates.s_client(server.port, "-alpn", "h2,http/1.1")[1]
            assert "ALPN protocol: http/1.1" in certificates.s_client(server.port, "-alpn", "http/1.1")[1]
            assert server.ask("/write?db=d", admin, "POST", "m value=1 1700000000000000000")[0] == 204
            assert server.ask("/api/v1/query?query=1", admin)[0] == 200
            assert server.ask("/api/v1/query?query=1")[0] == 401
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"200" not in connection.recv(100), "plain HTTP is answered"

            # A renewal: new connections see it, the open one goes on.
            kept = server.connect()
            kept.request("GET", "/health")
            kept.getresponse().read()
            former = certificates.serial(server.port)
            certificates.issue("renewed", "IP:127.0.0.1,DNS:localhost")
            certificates.replace("server", "renewed")
            eventually("the new certificate is shown", lambda: certificates.serial(server.port) != former, 10)
            kept.request("GET", "/health")
            assert kept.getresponse().status == 200, "the open connection was dropped"
            # What is no certificate changes nothing.
            good = certificates.path("server.pem").read_bytes()
            certificates.path("server.pem").write_text("nothing")
            eventually("the log says so", lambda: "are not used" in server.log.read_text(), 10)
            assert server.ask("/health")[0] == 200
            certificates.path("server.pem").write_bytes(good)

        certificates.issue("reader", "DNS:reader")
        certificates.issue("nobody", "DNS:nobody")
        certificates.issue("foreign", "DNS:reader", by="stranger")
        more = ["--auth", "--tls-client-ca", certificates.path("ca.pem")]
        with Secured(options.bin, place, certificates, "reader", more) as server:
            command(options, "create", "reader", "--scope", "default:read", "--data-dir", server.data)
            query = "/api/v1/query?query=1"
            eventually("the certificate stands for its token", lambda: server.ask(query)[0] == 200, 3)
            assert server.ask("/write?db=default", method="POST", body="m v=1")[0] == 403
            assert server.ask(query, context=certificates.context("nobody"))[0] == 401
            assert server.ask("/write?db=default", admin, "POST", "m v=1")[0] == 204
            for client in ("foreign", None):
                try:
                    status = server.ask(query, context=certificates.context(client))
                except (ssl.SSLError, ConnectionError, http.client.HTTPException):
                    continue
                raise AssertionError(f"{client} was let in: {status}")


def run(options):
    program("openssl")
    took = tokens(options)
    tls(options)
    return f"revocation counted elsewhere after {took * 1000:.0f} ms"
