"""Processes with roles over one folder: two ingesters, two queriers, a compactor.

What one acknowledges every querier answers at once; of two writes of one series and time the later one counts,
whoever took them; what a dead or stopped ingester had acknowledged is there."""
import http.client
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from harness import Tidelake, eventually, folder, free_ports, prometheus_api, request

BEGIN = 1_790_000_000
LEASE_MS = 2000


class Node(Tidelake):
    def __init__(self, options, place, name, roles, port):
        self.name, self.roles = name, roles
        where = place / name
        where.mkdir(exist_ok=True)
        more = ["--node", name, "--roles", roles, "--lease-ms", str(LEASE_MS), "--pg-listen", ""]
        more += ["--distributed-query-rows", "1"]
        super().__init__(options.bin, where, ["--data-dir", place / "store"], port, more)

    def cells(self, table):
        """{(host, time, field): value} of a wide table."""
        rows = self.sql(f"SELECT host, CAST(time AS BIGINT) AS t, v, u FROM {table}")
        found = {(r["host"], r["t"] // 10**9, f): r[f] for r in rows for f in ("v", "u") if r.get(f) is not None}
        assert len(rows) == len({(r["host"], r["t"]) for r in rows}), f"{self.name} answers a row twice"
        return found


class Cluster:
    def __init__(self, options, place, stack):
        self.options, self.place = options, place
        self.ports = iter(free_ports(9))
        self.ingesters = [stack.enter_context(self.node(f"ing{i}", "ingest")) for i in (1, 2)]
        self.queriers = [stack.enter_context(self.node(f"qry{i}", "query")) for i in (1, 2)]
        self.compactor = stack.enter_context(self.node("comp1", "compact"))

    def node(self, name, roles):
        return Node(self.options, self.place, name, roles, next(self.ports))

    def states(self):
        data = prometheus_api(self.queriers[0].url, "status/cluster")
        return {node["node"]: node["state"] for node in data["nodes"]}


def run(options):
    import contextlib
    from pathlib import Path

    with folder() as place, contextlib.ExitStack() as stack:
        cluster = Cluster(options, Path(place), stack)
        roles(cluster)
        seen = at_once(cluster)
        cells = overlapping(cluster)
        parts = spread(cluster, stack)
        deleted(cluster)
        rows = many(cluster)
        waited = adopted(cluster, stack)
        broken_off(cluster, stack)
        woken(cluster)
        stopped(cluster)
    return f"{seen} points seen at once, {rows} rows fetched by several at a time, {cells} cells of which the last write counts, {parts}, a dead node adopted after {waited:.1f} s"


def roles(cluster):
    """Who has not a role says so, and who has it."""
    def names(node, path, body, *words):
        status, text = request(f"{node.url}{path}", body)
        return status == 503 and all(word in text for word in words)

    # A process hears of those that came after it within a look at the catalog.
    ingester, querier = cluster.ingesters[0], cluster.queriers[0]
    eventually("a refusal of a write", lambda: names(querier, "/api/v2/write?bucket=default", "m v=1", "ingest", "ing1"), 10)
    eventually("a refusal of a query", lambda: names(ingester, "/api/v1/query?query=up", None, "query", "qry2"), 10)
    eventually("a refusal of a merge", lambda: names(ingester, "/admin/compact", b"", "compact", "comp1"), 10)
    assert cluster.states() == {name: "alive" for name in ("ing1", "ing2", "qry1", "qry2", "comp1")}, cluster.states()
    status, _ = request(f"{cluster.ingesters[0].url}/internal/v1/hello", "null", {"Authorization": "Bearer x"})
    assert status == 401, status


def at_once(cluster):
    """New tables, columns and series too."""
    rounds = 60
    for i in range(rounds):
        table, field = f"t{i % 7}", f"f{i % 5}"
        cluster.ingesters[i % 2].lines(f"{table},host=h{i} {field}={i} {(BEGIN + i) * 10**9}")
        for querier in cluster.queriers:
            rows = querier.sql(f"SELECT {field} AS v FROM {table} WHERE host = 'h{i}'")
            assert rows == [{"v": float(i)}], f"round {i}, {querier.name}: {rows}"
            found = prometheus_api(querier.url, "query", query=f'{table}_{field}{{host="h{i}"}}', time=BEGIN + i)["result"]
            assert [x["value"][1] for x in found] == [str(i)], f"round {i}, {querier.name}: {found}"
    return rounds * 2


def overlapping(cluster):
    """Fields of the same rows through both ingesters, one write after the other."""
    chance, want = random.Random(7), {}
    for i in range(300):
        ingester, host, t = chance.choice(cluster.ingesters), f"h{chance.randrange(3)}", BEGIN + chance.randrange(20)
        fields = chance.choice([["v"], ["u"], ["v", "u"]])
        ingester.lines(f"ov,host={host} {','.join(f'{f}={i}' for f in fields)} {t * 10**9}")
        want.update({(host, t, f): float(i) for f in fields})
        if chance.random() < 0.04:
            chance.choice(cluster.ingesters).post("/admin/flush")
        if chance.random() < 0.02:
            cluster.compactor.post("/admin/compact")
        if i % 10 == 0:
            same(chance.choice(cluster.queriers).cells("ov"), want, f"after write {i}")
    for what in ("before", "flushed", "merged"):
        if what == "flushed":
            [ingester.post("/admin/flush") for ingester in cluster.ingesters]
        if what == "merged":
            cluster.compactor.post("/admin/compact")
        for querier in cluster.queriers:
            same(querier.cells("ov"), want, f"{what}, {querier.name}")
    return len(want)


def same(found, want, when):
    wrong = [(cell, found.get(cell), value) for cell, value in want.items() if found.get(cell) != value]
    assert not wrong and len(found) == len(want), f"{when}: cell, found, expected: {wrong[:3]}"


def spread(cluster, stack):
    """Queriers compute parts of each other's aggregations, and all of them where one is stopped or killed."""
    asked, helper = cluster.queriers
    # Each field is a batch, and there are two queriers.
    query, at = 'sum by (host) ({__name__=~"ov_[uv]"})', BEGIN + 19

    def answer(querier):
        return prometheus_api(querier.url, "query", query=query, time=at)["result"]

    def task():
        path = f"/api/v1/explain?analyze=1&format=text&time={at}&query={quote(query)}"
        status, text = request(f"{asked.url}{path}")
        assert status == 200, text
        lines = [line.strip() for line in text.splitlines() if "task on qry2" in line]
        return lines[0] if lines else "nothing, because it is not known"

    want = answer(helper)
    assert len(want) == 3 and answer(asked) == want, f"{want} {answer(asked)}"
    eventually("a part that the other querier computes", lambda: "bytes=0" not in task() and "because" not in task(), 10)
    helper.child.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert answer(asked) == want
    stopped_for = time.monotonic() - began
    assert stopped_for < 7, stopped_for
    helper.child.send_signal(signal.SIGCONT)
    helper.stop(signal.SIGKILL)
    assert answer(asked) == want
    cluster.queriers[1] = stack.enter_context(cluster.node("qry2", "query"))
    eventually("a part that the new querier computes", lambda: "because" not in task(), 10)
    return f"answers of two queriers alike with one of them stopped ({stopped_for:.1f} s) and killed"


def deleted(cluster):
    """A delete at a querier finds what no segment has yet."""
    for i, ingester in enumerate(cluster.ingesters):
        ingester.lines(f"gone,host=h{i} v=1 {BEGIN * 10**9}")
    span = {"start": "2020-01-01T00:00:00Z", "stop": "2040-01-01T00:00:00Z"}
    import json

    status, text = request(f"{cluster.queriers[1].url}/api/v2/delete?bucket=default", json.dumps({**span, "predicate": '_measurement="gone"'}))
    assert status == 204, f"{status} {text}"
    for querier in cluster.queriers:
        assert querier.sql("SELECT count(*) AS n FROM gone") == [{"n": 0}], querier.name


def many(cluster):
    """Megabytes of rows that are in no segment, which several queries want at the same time."""
    rows, step = 60_000, 5_000
    for first in range(0, rows, step):
        lines = [f"many,host=h{i % 100} v={i},u={i % 7} {(BEGIN + i // 100) * 10**9}" for i in range(first, first + step)]
        cluster.ingesters[first // step % 2].lines("\n".join(lines))
    querier = cluster.queriers[1]
    ask = lambda _: querier.sql("SELECT count(*) AS n, sum(v) AS s FROM many")
    with ThreadPoolExecutor(8) as threads:
        for found in threads.map(ask, range(16)):
            assert found == [{"n": rows, "s": rows * (rows - 1) / 2}], found
    return rows


def broken_off(cluster, stack):
    """Whoever asks for an adoption goes away before it ends; it ends all the same."""
    dead = cluster.ingesters[0]
    for i in range(200):
        dead.lines(f"off,host=h{i} v=1 {BEGIN * 10**9}")
    dead.stop(signal.SIGKILL)
    adopter = cluster.ingesters[1]
    client = http.client.HTTPConnection("127.0.0.1", adopter.port, timeout=5)
    client.request("POST", f"/admin/adopt?node={dead.name}")
    time.sleep(0.03)
    client.close()
    gone = lambda: cluster.states().get(dead.name, "gone") == "gone"
    eventually("the end of an adoption that nobody waits for", gone, seconds=LEASE_MS / 1000 + 30)
    assert cluster.queriers[0].sql("SELECT count(*) AS n FROM off") == [{"n": 200}]
    cluster.ingesters = [adopter, stack.enter_context(cluster.node(dead.name, "ingest"))]


def adopted(cluster, stack):
    """Killed with points in its log only; the other one puts them into segments."""
    dead, other = cluster.ingesters
    for i in range(50):
        cluster.ingesters[i % 2].lines(f"kept,host=h{i} v={i} {BEGIN * 10**9}")
    dead.stop(signal.SIGKILL)
    began = time.monotonic()
    # Out of its log, until it is in segments and after.
    rounds = 0
    while cluster.states().get("ing1", "gone") != "gone":
        for querier in cluster.queriers:
            found = querier.sql("SELECT count(*) AS n, sum(v) AS s FROM kept")
            assert found == [{"n": 50, "s": 1225.0}], f"{querier.name}: {found}"
            answer = prometheus_api(querier.url, "query", query="count(kept_v)", time=BEGIN)
            assert answer["result"][0]["value"][1] == "50", answer
            rounds += 1
        assert time.monotonic() - began < LEASE_MS / 1000 + 30, cluster.states()
    assert rounds > 1, rounds
    waited = time.monotonic() - began
    cluster.ingesters = [other, stack.enter_context(cluster.node("ing1", "ingest"))]
    for i, ingester in enumerate(cluster.ingesters):
        ingester.lines(f"kept,host=h{i} v=1000 {BEGIN * 10**9}")
    assert whole_sum(cluster) == 1225 - 0 - 1 + 2000, whole_sum(cluster)
    return waited


def woken(cluster):
    """A process that stood still until its log was adopted begins anew, as the same process."""
    sleeper = cluster.ingesters[1]
    sleeper.lines(f"dream,host=a v=1 {BEGIN * 10**9}")
    sleeper.child.send_signal(signal.SIGSTOP)
    gone = lambda: cluster.states().get(sleeper.name, "gone") == "gone"
    eventually("the adoption of one that stands still", gone, seconds=LEASE_MS / 1000 + 30)
    sleeper.child.send_signal(signal.SIGCONT)
    alive = lambda: cluster.states().get(sleeper.name) == "alive"
    eventually("its new beginning", alive, seconds=30)
    assert sleeper.child.poll() is None
    eventually("it is ready", lambda: request(f"{sleeper.url}/ready")[0] == 200, seconds=30)
    sleeper.lines(f"dream,host=a v=2 {BEGIN * 10**9}")
    assert cluster.queriers[0].sql("SELECT v FROM dream") == [{"v": 2.0}]


def whole_sum(cluster):
    (row,) = cluster.queriers[0].sql("SELECT sum(v) AS s FROM kept")
    return row["s"]


def stopped(cluster):
    """A clean stop hands over."""
    leaving, other = cluster.ingesters
    leaving.lines(f"last,host=a v=1 {BEGIN * 10**9}")
    assert leaving.stop() == 0, leaving.tail()
    for querier in cluster.queriers:
        assert querier.sql("SELECT v FROM last") == [{"v": 1.0}], querier.name
        assert leaving.name not in cluster.states()
    other.lines(f"last,host=a v=2 {BEGIN * 10**9}")
    assert cluster.queriers[1].sql("SELECT v FROM last") == [{"v": 2.0}]
