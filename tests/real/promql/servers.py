"""A Prometheus and a Tidelake with the same data, asked side by side over connections that stay open."""
import http.client
import json
import urllib.parse
from contextlib import ExitStack
from pathlib import Path

import remote_write
from harness import Process, Tidelake, eventually, free_port, request
from promql.compare import Answer

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PATIENCE = 120  # seconds


class Connection:
    """Sends and receives in two steps, so that both servers work at the same time."""

    def __init__(self, port):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def send(self, path, body):
        for last in (False, True):
            try:
                self.http.request("POST", path, body, FORM)
                return
            except (http.client.HTTPException, OSError):
                # An idle connection may have been closed on the other side.
                self.http.close()
                if last:
                    raise

    def receive(self):
        answer = self.http.getresponse()
        return answer.status, answer.read()


class Servers:
    """Both servers, empty; closed at the end of the with block."""

    def __init__(self, prometheus, version, tidelake, place):
        self.stack = ExitStack()
        port, place = free_port(), Path(place)
        config = place / "prometheus.yml"
        config.write_text("")
        command = [
            prometheus,
            f"--config.file={config}",
            f"--storage.tsdb.path={place}/tsdb",
            # The data are of a fixed date.
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-remote-write-receiver",
            "--enable-feature=" + ",".join(version.features()),
        ]
        with ExitStack() as stack:
            stack.enter_context(Process(command, place / "prometheus.log"))
            server = stack.enter_context(Tidelake(tidelake, place))
            self.urls = [f"http://127.0.0.1:{port}", server.url]
            eventually("Prometheus ready", lambda: request(f"{self.urls[0]}/-/ready")[0] == 200)
            self.connections = [Connection(port), Connection(server.port)]
            self.stack = stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for connection in self.connections:
            connection.http.close()
        return self.stack.__exit__(*error)

    def load(self, data):
        for rows in data.requests():
            for url in self.urls:
                remote_write.send(url, rows)

    def post(self, path, **params):
        """[(status, body)] of both."""
        body = urllib.parse.urlencode(params)
        for connection in self.connections:
            connection.send(path, body)
        return [connection.receive() for connection in self.connections]

    def ask(self, query):
        """The answers of both to a `Query`."""
        (status, reference), (other_status, subject) = self.post(query.path(), **query.params())
        return Answer(status, json.loads(reference)), Answer(other_status, json.loads(subject))


class Query:
    """An expression with the time or times at which it is asked for."""

    def __init__(self, text, start, end=None, step=None, lookback=None, ends=None):
        self.text, self.start, self.end, self.step, self.lookback = text, start, end, step, lookback
        # What `@ start()` and `@ end()` mean, where the expression is from a query over a range.
        self.ends = (start, end) if step is not None else ends

    def is_range(self):
        return self.step is not None

    def path(self):
        return "/api/v1/query_range" if self.is_range() else "/api/v1/query"

    def params(self):
        times = {"start": seconds(self.start), "end": seconds(self.end), "step": seconds(self.step)} if self.is_range() else {"time": seconds(self.start)}
        return {"query": self.text, **times, **({"lookback_delta": seconds(self.lookback)} if self.lookback else {})}

    def times(self):
        return list(range(self.start, self.end + 1, self.step)) if self.is_range() else [self.start]

    def of(self, text):
        """Another expression at the same times."""
        return Query(text if self.is_range() else self.pinned(text), self.start, self.end, self.step, self.lookback, self.ends)

    def at(self, text, time):
        """An expression at one of the times; `@ start()` means what it meant."""
        return Query(self.pinned(text), time, None, None, self.lookback, self.ends)

    def pinned(self, text):
        if self.ends is None:
            return text
        return text.replace("@ start()", f"@ {seconds(self.ends[0])}").replace("@ end()", f"@ {seconds(self.ends[1])}")

    def __str__(self):
        return urllib.parse.unquote(f"{self.path()} {' '.join(f'{name}={value}' for name, value in self.params().items())}")


def seconds(ms):
    return f"{ms // 1000}.{ms % 1000:03}" if ms % 1000 else f"{ms // 1000}"
