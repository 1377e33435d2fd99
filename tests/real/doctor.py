"""`tidelake doctor` on a folder, below a running server, and on a real S3 server, with what can be wrong with them."""
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from harness import Tidelake, folder, free_port, package
from s3 import BUCKET, KEY, READER, READER_SECRET, SECRET, objects, seaweedfs

ENV = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
RIGHTS = ["store", "put", "get", "ranged get", "list", "delete", "put if absent", "puts at once", "multipart upload", "latency", "throughput"]
CONTENTS = ["catalog", "segments", "orphans", "write-ahead log"]
MAX_SECONDS = 20


def doctor(options, *flags, env=None, user=None, program=None):
    """(exit status, checks by name, seconds)."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TIDELAKE_", "AWS_"))}
    began = time.monotonic()
    command = [program or options.bin, "doctor", "--format", "json", *map(str, flags)]
    done = subprocess.run(command, env={**clean, **(env or {})}, capture_output=True, text=True, timeout=120, user=user)
    seconds = time.monotonic() - began
    assert done.stdout, f"{command}: {done.returncode} {done.stderr}"
    answer = json.loads(done.stdout)
    checks = {check["name"]: check for check in answer["checks"]}
    errors = [check for check in checks.values() if check["status"] == "error"]
    assert done.returncode == (1 if errors else 0) and answer["errors"] == len(errors), done.stdout
    return done.returncode, checks, seconds


def expect(checks, status, names):
    for name in names:
        assert name in checks and checks[name]["status"] == status, f"{name}, not {status}: {json.dumps(checks, indent=1)}"


def tree(place):
    return sorted(str(path.relative_to(place)) for path in Path(place).rglob("*"))


def but_logs(place):
    """The server puts marks into its log meanwhile."""
    return [path for path in tree(place) if not path.startswith("wal/")]


def run(options):
    with folder() as place:
        figures = [on_a_folder(options, place), beside_a_server(options, place), *unreachable(options)]
        process, endpoint, bucket = seaweedfs(place)
        with process:
            figures += [on_s3(options, place, endpoint, bucket), *refused(options, endpoint), rules(options, endpoint)]
    return "; ".join(figures)


def on_a_folder(options, place):
    empty = Path(place) / "empty"
    code, checks, _ = doctor(options, "--data-dir", empty)
    assert code == 1 and "no folder" in checks["store"]["seen"] and not empty.exists(), checks
    empty.mkdir()
    code, checks, _ = doctor(options, "--data-dir", empty)
    expect(checks, "ok", [*RIGHTS, "clock", *CONTENTS])
    assert code == 0 and tree(empty) == [] and "bill" not in checks, checks
    stopped(options, empty)
    if os.getuid() != 0:
        return "a folder is left as it was"
    # Root may write everywhere: another user may not, nor may it run a program below root's own folder.
    Path(place).chmod(0o755)
    empty.chmod(0o555)
    program = shutil.copy(options.bin, Path(place) / "tidelake")
    code, checks, _ = doctor(options, "--data-dir", empty, user=pwd.getpwnam("nobody").pw_uid, program=program)
    expect(checks, "error", ["put"])
    expect(checks, "ok", ["store", *CONTENTS])
    assert code == 1 and "Permission denied" in checks["put"]["seen"] and "user" in checks["put"]["advice"], checks
    return "a folder is left as it was, and one that cannot be written is an error"


def stopped(options, place):
    """Ctrl-C in the middle leaves nothing, and the next run deletes what a kill has left an hour ago."""
    for how, code in [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]:
        child = subprocess.Popen([options.bin, "doctor", "--data-dir", place], stdout=subprocess.PIPE, text=True)
        with child:
            line = next(line for line in child.stdout if line.split()[1:3] == ["puts", "at"])
            assert "one was taken" in line and tree(place), line
            child.send_signal(how)
        assert child.returncode == code, (how, child.returncode)
        if how == signal.SIGINT:
            assert tree(place) == [], tree(place)
    left = [path for path in place.rglob("*") if path.is_file()]
    assert left, "nothing to be deleted"
    for path in left:
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    doctor(options, "--data-dir", place)
    assert not [path for path in place.rglob("*") if path.is_file()], tree(place)
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir()


def beside_a_server(options, place):
    with Tidelake(options.bin, place, more=["--self-monitoring-interval-ms", "0"]) as server:
        server.lines("\n".join(f"m,host=h{i % 5} v={i} {1_790_000_000 + i}000000000" for i in range(1000)))
        server.post("/admin/flush")
        server.lines("m,host=h1 v=1 1790002000000000000")
        before = but_logs(server.data)
        code, checks, _ = doctor(options, "--data-dir", server.data)
        expect(checks, "ok", [*RIGHTS, "clock", *CONTENTS])
        assert code == 0 and but_logs(server.data) == before, checks
        segments = checks["segments"]["figures"]
        assert segments["segments"] >= 1 and segments["rows"] == 1000 and segments["levels"]["0"]["segments"] >= 1, segments
        assert checks["write-ahead log"]["figures"]["objects"] >= 1, checks["write-ahead log"]
        assert checks["catalog"]["figures"]["nodes"] == ["node-1"], checks["catalog"]
        # An orphan is a file of a segment that nothing names, by the time in its name.
        day = server.data / "data" / "default" / "m" / "2026-09-21"
        day.mkdir(parents=True, exist_ok=True)
        orphan = day / f"{int(time.time() * 1000) - 2 * 86_400_000:012x}{1:020x}.parquet"
        orphan.write_bytes(b"x" * 10)
        code, checks, _ = doctor(options, "--data-dir", server.data)
        expect(checks, "warning", ["orphans"])
        assert code == 0 and checks["orphans"]["figures"]["orphan_bytes"] == 10 and orphan.exists(), checks["orphans"]
        orphan.unlink()
        server.lines("m,host=h1 v=2 1790002001000000000")
        assert server.sql("SELECT count(*) AS n FROM m") == [{"n": 1002}]
    verified = subprocess.run([options.bin, "verify", "--data-dir", server.data], capture_output=True, text=True, timeout=120)
    assert verified.returncode == 0, verified.stdout
    return "checks beside a running server change nothing"


def unreachable(options):
    """Nothing listens, or what listens never answers, or there is no such host: an end in time that says so."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        for what, endpoint in [
            ("refused", f"http://127.0.0.1:{free_port()}"),
            ("silent", f"http://127.0.0.1:{silent.getsockname()[1]}"),
            ("unknown host", "http://no-such-host.invalid:9000"),
        ]:
            code, checks, seconds = doctor(options, "--store", f"s3://{BUCKET}/p", "--s3-endpoint", endpoint, "--s3-allow-http", env=ENV)
            assert code == 1 and list(checks) == ["store"] and "s3_endpoint" in checks["store"]["advice"], f"{what}: {checks}"
            assert seconds < MAX_SECONDS, f"{what}: {seconds:.0f} s"
            yield f"{what}: {seconds:.0f} s"


def s3_flags(endpoint, store):
    return ["--store", store, "--s3-endpoint", endpoint, "--s3-allow-http"]


def on_s3(options, place, endpoint, bucket):
    flags = s3_flags(endpoint, f"s3://{BUCKET}/doctored")
    with Tidelake(options.bin, place, flags, more=["--cache-bytes", "0"], env=ENV) as server:
        server.lines("\n".join(f"m,host=h{i % 5} v={i} {1_790_000_000 + i}000000000" for i in range(1000)))
        server.post("/admin/flush")
        code, checks, _ = doctor(options, *flags, env=ENV)
        expect(checks, "ok", [*RIGHTS, "clock", *CONTENTS, "bill"])
        assert code == 0 and checks["segments"]["figures"]["rows"] >= 1000, checks
        expect(checks, "ok", ["versioning", "lifecycle rules"])
        assert not [path for path in objects(bucket, "doctored") if "/doctor/" in path], objects(bucket, "doctored")
        bill = checks["bill"]["figures"]
        _, dearer, _ = doctor(options, *flags, "--ingesters", "3", "--store-dollars-per-million-writes", "10", env=ENV)
        dearer, seen = dearer["bill"]["figures"], dearer["latency"]["seen"]
        # Puts take their time, of which the interval of the log is not shorter.
        assert bill["ingesters"] == 1 and dearer["ingesters"] == 3 and dearer["wal_dollars"] > 3 * bill["wal_dollars"] > 0, (bill, dearer)
        reader = {**ENV, "AWS_ACCESS_KEY_ID": READER, "AWS_SECRET_ACCESS_KEY": READER_SECRET}
        code, checks, _ = doctor(options, *flags, env=reader)
        expect(checks, "error", ["put"])
        expect(checks, "ok", ["store", "clock", *CONTENTS])
        assert code == 1 and "s3:PutObject" in checks["put"]["advice"] and "get" not in checks, checks
    return f"on S3 {seen}, and keys that only read are an error"


def refused(options, endpoint):
    """Wrong keys, no bucket."""
    for what, store, env, advice in [
        ("no bucket", "s3://no-such-bucket/p", ENV, "create the bucket"),
        ("wrong secret", f"s3://{BUCKET}/p", {**ENV, "AWS_SECRET_ACCESS_KEY": "wrong"}, "AWS_SECRET_ACCESS_KEY"),
        ("unknown key", f"s3://{BUCKET}/p", {**ENV, "AWS_ACCESS_KEY_ID": "nobody"}, "AWS_ACCESS_KEY_ID"),
    ]:
        code, checks, seconds = doctor(options, *s3_flags(endpoint, store), env=env)
        assert code == 1 and checks["store"]["status"] == "error" and advice in checks["store"]["advice"], f"{what}: {checks}"
        expect(checks, "ok", ["clock"])
        assert seconds < MAX_SECONDS and "put" not in checks, f"{what}: {seconds:.0f} s {checks}"
        yield f"{what}: {seconds:.0f} s"


def rules(options, endpoint):
    """Lifecycle rules and versions of a real server."""
    client = package("boto3").client("s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1")

    def rule(prefix, **action):
        return {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": prefix}, **action}

    expire = {"Expiration": {"Days": 30}}
    abort = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}
    for rule_set, status in [
        ([rule("other/", **expire)], "ok"),
        ([rule("", **expire)], "error"),
        ([rule("p/data/default/", **expire)], "error"),
        ([rule("", **abort)], "ok"),
    ]:
        client.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": rule_set})
        _, checks, _ = doctor(options, *s3_flags(endpoint, f"s3://{BUCKET}/p"), env=ENV)
        expect(checks, status, ["lifecycle rules"])
        expect(checks, "ok", ["versioning"])
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    code, checks, _ = doctor(options, *s3_flags(endpoint, f"s3://{BUCKET}/p"), env=ENV)
    expect(checks, "warning", ["versioning"])
    assert code == 0, checks
    return "lifecycle rules and versions are seen"
