"""A real S3 server: a kill in between loses nothing, and the end-to-end tests pass on it."""
import json
import os
import signal
import subprocess
import threading
import time
from http.client import HTTPException
from pathlib import Path

from harness import ROOT, Process, Tidelake, eventually, folder, free_ports, package, program, request

KEY, SECRET, BUCKET = "testkey", "testsecret", "tidelake-test"
TESTS_SECONDS = 1800


READER, READER_SECRET = "readerkey", "readersecret"


def identities():
    def identity(name, key, secret, actions):
        return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}

    everything = ["Admin", "Read", "List", "Tagging", "Write"]
    return {"identities": [identity("test", KEY, SECRET, everything), identity("reader", READER, READER_SECRET, ["Read", "List"])]}


def seaweedfs(place):
    """A SeaweedFS with one bucket; (process, endpoint)."""
    weed = program("weed")
    package("pyarrow")
    from pyarrow.fs import S3FileSystem

    data = Path(place) / "weed"
    data.mkdir()
    config = Path(place) / "s3.json"
    config.write_text(json.dumps(identities()))
    # Every port is named: gRPC would be 10,000 above its service, which may be no port at all, and others are fixed.
    services = ["master.port", "volume.port", "filer.port", "admin.port", "s3.port"]
    names = [*services, *(f"{name}.grpc" for name in services), "webdav.port", "s3.port.iceberg", "s3.port.lance"]
    ports = dict(zip(names, free_ports(len(names))))
    port = ports["s3.port"]
    command = [weed, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={config}", f"-bucket={BUCKET}", "-admin.ui=false", "-webdav=false"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    process = Process(command, Path(place) / "weed.log", {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET})
    endpoint = f"http://127.0.0.1:{port}"

    bucket = S3FileSystem(
        access_key=KEY, secret_key=SECRET, region="us-east-1", endpoint_override=f"127.0.0.1:{port}", scheme="http", request_timeout=5, connect_timeout=5
    )

    def up():
        # It answers before it can keep anything: ready is when an object comes back.
        process.check_alive()
        with bucket.open_output_stream(f"{BUCKET}/probe") as out:
            out.write(b"x")
        with bucket.open_input_stream(f"{BUCKET}/probe") as found:
            return found.read() == b"x"

    try:
        eventually("SeaweedFS ready", up)
    except BaseException:
        process.stop(signal.SIGKILL)
        raise
    return process, endpoint, bucket


def write_until_killed(server, enough):
    """Writes one point after the other until the server is gone; the numbers that were acknowledged, and all that were sent."""
    acknowledged, sent = [], []
    for i in range(100_000):
        sent.append(i)
        try:
            server.lines(f"m,k=v{i % 3} n={i}i {i + 1}")
        except (OSError, HTTPException):
            break
        acknowledged.append(i)
        if len(acknowledged) == 200:
            enough.set()
    return acknowledged, sent


def objects(bucket, prefix):
    from pyarrow.fs import FileSelector, FileType

    found = bucket.get_file_info(FileSelector(f"{BUCKET}/{prefix}", recursive=True, allow_not_found=True))
    return [info.path for info in found if info.type == FileType.File]


def run(options):
    program("cargo")
    with folder() as place:
        process, endpoint, bucket = seaweedfs(place)
        env = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
        with process:
            refusals = refused(options, place, endpoint, env)
            kept = killed(options, place, endpoint, bucket, env)
            reads = cached(options, place, endpoint, env)
            env.update(TIDELAKE_TEST_S3_ENDPOINT=endpoint, TIDELAKE_TEST_S3_BUCKET=BUCKET)
            before = set(objects(bucket, ""))
            results = cargo_test(Path(place) / "cargo.log", env)
            made = set(objects(bucket, "")) - before
            assert made, "the end-to-end tests left nothing in the bucket: they did not run on it"
            return f"{refusals}; {kept}; {reads}; end-to-end tests with {len(made)} objects left: {results}"


def refused(options, place, endpoint, env):
    """Settings that no repetition heals end the start within seconds, and the message says what to do."""
    flags = ["--s3-endpoint", endpoint, "--s3-allow-http", "--listen", f"127.0.0.1:{free_ports(1)[0]}"]
    slowest = 0
    for store, more, advice in [
        ("s3://no-such-bucket/p", {}, "create the bucket"),
        (f"s3://{BUCKET}/p", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (f"s3://{BUCKET}/p", {"AWS_ACCESS_KEY_ID": "nobody"}, "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ]:
        began = time.monotonic()
        command = [options.bin, "serve", "--store", store, *flags]
        done = subprocess.run(command, cwd=place, env={**os.environ, **env, **more}, capture_output=True, text=True, timeout=60)
        seconds = time.monotonic() - began
        slowest = max(slowest, seconds)
        text = done.stdout + done.stderr
        assert done.returncode != 0 and advice in text, f"{store} {more}: {done.returncode} {text[-2000:]}"
        assert seconds < 30, f"{store} {more}: ended after {seconds:.0f} s"
    return f"wrong settings end the start within {slowest:.0f} s"


def killed(options, place, endpoint, bucket, env):
    """A kill in the middle of writes; the new process must have every point that was acknowledged."""
    store = ["--store", f"s3://{BUCKET}/own", "--s3-endpoint", endpoint, "--s3-allow-http", "--cache-bytes", "0"]
    with Tidelake(options.bin, place, store, more=["--wal-interval-ms", "0"], env=env) as server:
        enough = threading.Event()

        def kill():
            enough.wait(60)
            server.stop(signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        acknowledged, sent = write_until_killed(server, enough)
        killer.join()
    assert len(acknowledged) >= 200 and len(sent) == len(acknowledged) + 1, (len(acknowledged), len(sent))
    without_server(options, store[:5], objects(bucket, "own"), lambda: objects(bucket, "own"), (len(acknowledged), len(sent)))
    with Tidelake(options.bin, place, store, env=env) as server:
        for step in (None, "/admin/flush", "/admin/compact"):
            if step:
                server.post(step)
            rows = [(row["n"], row["k"]) for row in server.sql("SELECT n, k FROM m ORDER BY n")]
            # The last one broke off: it may be there, once.
            possible = [[(i, f"v{i % 3}") for i in numbers] for numbers in (acknowledged, sent)]
            assert rows in possible, f"after {step}: {len(rows)} rows, {len(acknowledged)} acknowledged"
    assert not server.data.exists(), "there are data in a folder"
    files = objects(bucket, "own")
    assert any(path.endswith(".parquet") for path in files), files
    return f"{len(acknowledged)} acknowledged points there after kill -9"


def without_server(options, flags, before, now, possible):
    """What the killed server acknowledged is in its log only, and read from there with keys that may not write."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TIDELAKE_", "AWS_"))}
    keys = {"AWS_ACCESS_KEY_ID": READER, "AWS_SECRET_ACCESS_KEY": READER_SECRET, "AWS_REGION": "us-east-1"}
    command = [options.bin, "sql", "SELECT count(*) AS n FROM m", "--format", "json", *flags]
    done = subprocess.run(command, env={**clean, **keys}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and json.loads(done.stdout)[0]["n"] in possible, (done, possible)
    assert before == now(), "reading has changed the bucket"


def figure(server, name):
    """A figure of /metrics; nothing if it is not shown."""
    lines = request(f"{server.url}/metrics")[1].splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith(f"tidelake_{name} ")), None)


def cached(options, place, endpoint, env):
    """What was read once is on local disk after a restart; a cache that is damaged or cannot be changes no answer."""
    cache = Path(place) / "cache"
    query = "SELECT host, count(*), sum(v) FROM m GROUP BY host ORDER BY host"

    def serve(directory):
        store = ["--store", f"s3://{BUCKET}/cached", "--s3-endpoint", endpoint, "--s3-allow-http", "--cache-dir", directory]
        return Tidelake(options.bin, place, store, env=env)

    with serve(cache) as server:
        server.lines("\n".join(f"m,host=h{i % 50} v={i} {1_790_000_000 + i}000000000" for i in range(50_000)))
        server.post("/admin/flush")
        expected = server.sql(query)
    requests = []
    for _ in range(2):
        with serve(cache) as server:
            assert server.sql(query) == expected
            requests.append(figure(server, "query_read_requests_total"))
            assert figure(server, "disk_cache_limit_bytes") > 0
    # Of the first of them the process before may have read everything already.
    assert requests[1] == 0 and written(cache) > 0, requests
    for file in cache.iterdir():
        file.write_bytes(os.urandom(100_000))
    with serve(cache) as server:
        assert server.sql(query) == expected, "with a damaged cache"
        for file in cache.iterdir():
            file.unlink()
        assert server.sql(query) == expected, "with a deleted cache"
    # Not a directory.
    file = Path(place) / "file"
    file.write_text("")
    with serve(file / "cache") as server:
        assert server.sql(query) == expected, "without a cache"
        assert figure(server, "disk_cache_limit_bytes") is None
    log = (Path(place) / "tidelake.log").read_text()
    assert log.count("no cache on disk") == 1, log[-2000:]
    return "a restart reads nothing again"


def written(directory):
    """Bytes that files take, as far as they are written."""
    return sum(file.stat().st_blocks for file in directory.iterdir()) * 512


def cargo_test(log, env):
    """Runs the end-to-end tests; what they say about themselves."""
    # All packages: for one alone their features differ, and everything is built again.
    command = ["cargo", "test", "--workspace", "--test", "end_to_end", "--locked"]
    with log.open("w") as output:
        # A group of its own, so that the servers of its tests end with it.
        child = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = child.wait(TESTS_SECONDS)
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
    text = log.read_text(errors="replace")
    assert code == 0, f"cargo test ended with {code}: {text[-4000:]}"
    results = [line for line in text.splitlines() if line.startswith("test result")]
    assert any(" 0 passed" not in line for line in results), text[-4000:]
    return "; ".join(results)
