"""Processes, ports and requests for the tests with real programs."""
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
VENV = Path(os.environ.get("TIDELAKE_TEST_VENV", CACHE / "tidelake-tests" / "venv"))
PROGRAMS = VENV.parent / "programs"  # what install.sh unpacks


class Skipped(Exception):
    """The test cannot run here; the text names what is missing."""


def program(name):
    """The path of a program, or Skipped."""
    found = shutil.which(name, path=str(PROGRAMS)) or shutil.which(name) or shutil.which(name, path=str(VENV / "bin"))
    if not found:
        raise Skipped(f"{name} not found")
    return found


def package(name):
    """A Python package from the virtual environment, or Skipped."""
    try:
        return __import__(name)
    except ImportError:
        raise Skipped(f"Python package {name} not found") from None


def free_ports(count):
    """Different ports that nobody listens on."""
    held = [socket.socket() for _ in range(count)]
    try:
        for s in held:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in held]
    finally:
        for s in held:
            s.close()


def free_port():
    return free_ports(1)[0]


def eventually(what, check, seconds=60):
    """Waits until check() is true; its exceptions count as not yet."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if check():
                return
        except (OSError, AssertionError, ValueError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds} s" + (f": {last}" if last else ""))


def request(url, body=None, headers=None, method=None, timeout=60):
    """(status, text) of a request."""
    data = body.encode() if isinstance(body, str) else body
    req = urllib.request.Request(url, data=data, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(req, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def prometheus_api(base, path, **params):
    """`data` of an answer of the Prometheus API."""
    status, text = request(f"{base}/api/v1/{path}?{urllib.parse.urlencode(params)}")
    answer = json.loads(text)
    assert answer["status"] == "success", f"{path} {params}: {status} {text}"
    return answer["data"]


def die_with_parent():
    """Runs in a child: the kernel kills it when this program is gone, however it went."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child process with its output in a file; stopped at the end of the with block."""

    def __init__(self, command, log, env=None):
        self.log = Path(log)
        # Settings of who runs the tests must not reach the servers.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TIDELAKE_")}
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited, **(env or {})},
                preexec_fn=die_with_parent,
            )

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.stop(signal.SIGTERM, seconds=20)
        if kind and issubclass(kind, Exception):
            print(f"--- the end of {self.log.name}\n{self.tail()}", flush=True)

    def stop(self, how=signal.SIGTERM, seconds=60):
        """Sends a signal and waits; kills what does not end. Returns the exit code."""
        if self.child.poll() is None:
            self.child.send_signal(how)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        return self.child.returncode

    def check_alive(self):
        if self.child.poll() is not None:
            # Not an AssertionError: there is nothing to wait for any more.
            raise RuntimeError(f"{self.log.stem} ended with {self.child.returncode}: {self.tail()}")

    def tail(self):
        return self.log.read_text(errors="replace")[-2000:]


class Tidelake(Process):
    """A server; `store` are the flags that choose where its data lie."""

    def __init__(self, binary, folder, store=None, port=None, more=(), env=None):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data = Path(folder) / "db"
        store = store or ["--data-dir", self.data]
        super().__init__([binary, "serve", "--listen", f"127.0.0.1:{self.port}", *store, *more], Path(folder) / "tidelake.log", env)
        try:
            eventually("tidelake ready", self.ready)
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def ready(self):
        self.check_alive()
        return request(f"{self.url}/ready")[0] == 200

    def lines(self, text):
        status, answer = request(f"{self.url}/api/v2/write?bucket=default", text)
        assert status == 204, f"{status} {answer}"

    def sql(self, query):
        """The rows of an answer."""
        body = json.dumps({"db": "default", "q": query, "format": "json"})
        status, text = request(f"{self.url}/api/v3/query_sql", body, {"Content-Type": "application/json"})
        assert status == 200, f"{query}: {status} {text}"
        return json.loads(text)

    def post(self, path):
        status, text = request(f"{self.url}{path}", b"", method="POST", timeout=300)
        assert status == 204, f"{path}: {status} {text}"


def folder():
    return tempfile.TemporaryDirectory(prefix="tidelake-real-")
