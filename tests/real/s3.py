"""A real S3 server: a kill in between loses nothing, and the end-to-end tests pass on it."""
import json
import os
import signal
import subprocess
from pathlib import Path

from harness import ROOT, Process, Tidelake, eventually, folder, free_port, program, request

KEY, SECRET, BUCKET = "testkey", "testsecret", "tidelake-test"


def identities():
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    return {"identities": [{"name": "test", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": actions}]}


def seaweedfs(place):
    """A SeaweedFS with one bucket; (process, endpoint)."""
    weed, port = program("weed"), free_port()
    data = Path(place) / "weed"
    data.mkdir()
    config = Path(place) / "s3.json"
    config.write_text(json.dumps(identities()))
    ports = [f"-{part}={free_port()}" for part in ("master.port", "volume.port", "filer.port", "admin.port", "webdav.port")]
    command = [weed, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={port}", f"-s3.config={config}", f"-bucket={BUCKET}", *ports]
    process = Process(command, Path(place) / "weed.log", {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET})
    endpoint = f"http://127.0.0.1:{port}"

    def up():
        assert process.alive(), process.log.read_text()[-2000:]
        return request(f"{endpoint}/{BUCKET}")[0] in (200, 403)

    eventually("SeaweedFS ready", up)
    return process, endpoint


def run(options):
    with folder() as place:
        process, endpoint = seaweedfs(place)
        env = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
        with process:
            store = ["--store", f"s3://{BUCKET}/own", "--s3-endpoint", endpoint, "--s3-allow-http"]
            server = Tidelake(options.bin, place, store, env=env)
            with server:
                for i in range(20):
                    server.lines(f"m,k=v{i % 3} n={i}i {i + 1}")
                server.stop(signal.SIGKILL)
            with Tidelake(options.bin, place, store, env=env) as server:
                assert server.sql("SELECT count(*) AS c, sum(n) AS s FROM m") == [{"c": 20, "s": 190}]
                server.post("/admin/flush")
                server.post("/admin/compact")
                assert server.sql("SELECT count(*) AS c, sum(n) AS s FROM m") == [{"c": 20, "s": 190}]
            tests = ["cargo", "test", "--package", "tidelake-tests", "--locked"]
            env.update(TIDELAKE_TEST_S3_ENDPOINT=endpoint, TIDELAKE_TEST_S3_BUCKET=BUCKET)
            done = subprocess.run(tests, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert done.returncode == 0, done.stdout[-4000:]
            results = [line for line in done.stdout.splitlines() if line.startswith("test result")]
            assert any(" 0 passed" not in line for line in results), done.stdout
            return results[0]
