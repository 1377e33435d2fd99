"""The command line in a real terminal (tmux): prompt, completion, paging, graph, Ctrl-C, pipes, a server that is gone; and a store without a server."""
import json
import os
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

from harness import Tidelake, eventually, folder, free_port, program, request

ROWS = 500
# 62 billion pairs.
ENDLESS = "SELECT sum(a.usage * b.usage * c.usage * d.usage) FROM measured a, measured b, measured c, measured d"


def clean(**more):
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("TIDELAKE_", "TMUX", "PAGER", "LESS"))}
    return {**settings, **more}


class Terminal:
    """A shell in a terminal of 100 by 30."""

    def __init__(self, place, url):
        self.tmux = [program("tmux"), "-L", f"tidelake-{os.getpid()}", "-f", "/dev/null"]
        env = clean(XDG_STATE_HOME=str(place), TIDELAKE_URL=url, TERM="screen-256color", LANG="C.UTF-8", HISTFILE="")
        shell = [*self.tmux, "-u", "new-session", "-d", "-x", "100", "-y", "30", "bash --norc --noprofile"]
        subprocess.run(shell, env=env, cwd=place, check=True)

    def __enter__(self):
        try:
            self.shows("#" if os.getuid() == 0 else "$")
            self.types("PS1='shell> '", "Enter")
            self.clear()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        subprocess.run([*self.tmux, "kill-server"], check=False)

    def screen(self, *flags):
        shown = subprocess.run([*self.tmux, "capture-pane", "-p", *flags], capture_output=True, text=True, check=True)
        return shown.stdout.rstrip()

    def keys(self, *names):
        subprocess.run([*self.tmux, "send-keys", *names], check=True)

    def types(self, text, *keys):
        # To tmux, too, a last semicolon means something.
        text = text[:-1] + "\\;" if text.endswith(";") else text
        subprocess.run([*self.tmux, "send-keys", "-l", text], check=True)
        self.keys(*keys)

    def clear(self):
        """What is shown from now on is new."""
        self.types("clear", "Enter")
        eventually("a clear screen", lambda: self.screen() == "shell>", 5)

    def shows(self, text, seconds=10):
        try:
            eventually(f"{text!r} on the screen", lambda: text in self.screen(), seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.screen()}") from None

    def last_line(self, text, seconds=10):
        try:
            eventually(f"a last line {text!r}", lambda: self.screen().splitlines()[-1].rstrip() == text.rstrip(), seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.screen()}") from None


def run(options):
    tidelake = str(Path(options.bin).resolve())
    with folder() as place:
        with Tidelake(options.bin, place) as server:
            now = int(time.time())
            server.lines("\n".join(f"measured,host=h{n:03} usage={n % 7}.5 {(now - 3 * n) * 10**9}" for n in range(ROWS)))
            with Terminal(place, server.url) as terminal:
                prompt(terminal, tidelake)
                paging(terminal)
                interrupts(terminal, server)
                leave_and_return(terminal, tidelake)
                graph(terminal, tidelake)
                gone(terminal, tidelake, server)
                prompt_on_store(terminal, tidelake, server)
            pipes(tidelake, place)
            store(options, tidelake, place, server)
        without_server(tidelake, server)
        reads = beside_writes(options, tidelake, Path(place) / "busy")
    return f"prompt, completion, paging, history, graph, Ctrl-C, pipes, a server that is gone, a store without one; {reads}"


def prompt(terminal, tidelake):
    terminal.types(f"{tidelake} sql --timing", "Enter")
    terminal.last_line("default=>")
    terminal.types("SELECT count(*) AS all_of_them FROM mea", "Tab")
    terminal.shows("FROM measured")
    terminal.types(" WHERE ho", "Tab")
    terminal.shows("WHERE host")
    # Without its end a statement goes on in the next line.
    terminal.types(" > ''", "Enter")
    terminal.types("AND usage > 0;", "Enter")
    terminal.shows("all_of_them")
    terminal.shows(f"| {ROWS} ")
    terminal.shows(" ms")
    terminal.types("\\d", "Enter")
    terminal.shows("measured")
    terminal.types("SELECT nothing FROM measured;", "Enter")
    terminal.shows("error: ")
    terminal.last_line("default=>")


def paging(terminal):
    terminal.types("SELECT host FROM measured ORDER BY host;", "Enter")
    # less shows the first page, and then others.
    terminal.shows("h010")
    terminal.last_line(":")
    terminal.keys("G")
    terminal.shows(f"h{ROWS - 1}")
    terminal.keys("q")
    terminal.last_line("default=>")


def interrupts(terminal, server):
    terminal.types(f"{ENDLESS};", "Enter")
    eventually("a query that runs", lambda: ENDLESS[:30] in request(f"{server.url}/admin/queries")[1], 10)
    terminal.keys("C-c")
    terminal.shows("ended", 5)
    terminal.last_line("default=>")
    eventually("no query runs", lambda: json.loads(request(f"{server.url}/admin/queries")[1]) == [], 10)
    terminal.types("SELECT half of a sta", "C-c")
    terminal.last_line("default=>")
    terminal.types("SELECT 6 * 7 AS answer;", "Enter")
    terminal.shows("| 42")
    terminal.types("\\q", "Enter")
    terminal.last_line("shell>")


def leave_and_return(terminal, tidelake):
    terminal.clear()
    terminal.types(f"{tidelake} sql", "Enter")
    terminal.last_line("default=>")
    terminal.keys("Up", "Up")
    terminal.last_line("default=> SELECT 6 * 7 AS answer;")
    terminal.keys("C-c")
    terminal.last_line("default=>")
    terminal.keys("C-d")
    terminal.last_line("shell>")
    terminal.clear()
    # A statement without a prompt ends as programs do.
    terminal.types(f"{tidelake} sql {shlex.quote(ENDLESS)}", "Enter")
    time.sleep(1)
    terminal.keys("C-c")
    terminal.last_line("shell>", 5)
    terminal.types("echo status $?", "Enter")
    terminal.shows("status 130")


def graph(terminal, tidelake):
    terminal.clear()
    terminal.types(f"{tidelake} query 'avg(measured_usage)' --since 20m; echo status $?", "Enter")
    terminal.shows("status 0")
    drawn = terminal.screen()
    assert any("\u2801" <= character <= "\u28ff" for character in drawn), drawn
    assert "\x1b[" in terminal.screen("-e"), "no colours on a terminal"
    assert all(len(line) <= 100 for line in drawn.splitlines()), drawn


def gone(terminal, tidelake, server):
    """The server stops answering at a prompt; a paused process stands for any that is stuck."""
    terminal.clear()
    closed = f"http://127.0.0.1:{free_port()}"
    terminal.types(f"{tidelake} sql --url {closed}; echo status $?", "Enter")
    terminal.shows("status 1")
    terminal.shows(f"{closed} does not answer")
    terminal.clear()
    terminal.types(f"{tidelake} sql", "Enter")
    terminal.last_line("default=>")
    os.kill(server.child.pid, signal.SIGSTOP)
    try:
        terminal.types("SELECT 1;", "Enter")
        time.sleep(1)
        terminal.keys("C-c")
        terminal.shows("ended", 5)
    finally:
        os.kill(server.child.pid, signal.SIGCONT)
    terminal.types("\\q", "Enter")
    terminal.last_line("shell>")


def prompt_on_store(terminal, tidelake, server):
    """The prompt is the same without a server."""
    terminal.clear()
    terminal.types(f"{tidelake} sql --data-dir {server.data}", "Enter")
    terminal.last_line("default=>")
    terminal.types("SELECT max(usage) AS most FROM mea", "Tab")
    terminal.shows("FROM measured")
    terminal.types(";", "Enter")
    terminal.shows("| 6.5")
    terminal.types("\\d measured", "Enter")
    terminal.shows("usage")
    terminal.types("DROP TABLE measured;", "Enter")
    terminal.shows("a store is only read without a server")
    terminal.types("\\q", "Enter")
    terminal.last_line("shell>")


def shell(line, place, **env):
    """Exit status, standard output and error."""
    done = subprocess.run(["bash", "-c", line], cwd=place, env=clean(**env), capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def pipes(tidelake, place):
    """What is not read any more is no failure; see `store` for commands without a server."""
    closed = f"http://127.0.0.1:{free_port()}"
    for command in ["query up", "sql 'SELECT 1'", "status", "cluster"]:
        code, out, error = shell(f"{tidelake} {command} --url {closed}", place)
        assert (code, out) == (1, "") and "does not answer" in error and "\x1b" not in error, (command, code, out, error)


def store(options, tidelake, place, server):
    """A folder answers as the server on it does, beside it, and stays as it is."""
    range_query = "query measured_usage --since 20m --step 1s --format csv"
    for place_of, env in [(f"--url {server.url}", {}), (f"--data-dir {server.data}", {"TIDELAKE_URL": "http://127.0.0.1:1"})]:
        code, out, error = shell(f"set -o pipefail; {tidelake} {range_query} {place_of} | head -1", place, **env)
        assert (code, out, error) == (0, "__name__,host,time,value\n", ""), (place_of, code, out, error)
        code, out, error = shell(f"set -o pipefail; {tidelake} sql 'SELECT * FROM measured' {place_of} | head -1", place, **env)
        assert code == 0 and out.startswith("+") and error == "", (place_of, code, out, error)
    statements = ["SELECT * FROM measured ORDER BY time, host", "SELECT host, max(usage) FROM measured GROUP BY host ORDER BY host"]

    def answers(flags):
        asked = [f"{tidelake} sql --format json {shlex.quote(sql)} {flags}" for sql in statements]
        asked.append(f"{tidelake} query 'sum by (host) (measured_usage)' --time {int(time.time()) // 60 * 60} --format json {flags}")
        found = [shell(line, place) for line in asked]
        assert all((code, error) == (0, "") for code, _, error in found), found
        return [out for _, out, _ in found]

    before = objects(server.data)
    expected = answers(f"--url {server.url}")
    assert expected[0].count("usage") == ROWS
    assert answers(f"--data-dir {server.data}") == expected
    assert answers(f"--store {server.data}") == expected
    for change in ["DROP TABLE measured", "DELETE FROM measured WHERE host = 'h001'"]:
        code, out, error = shell(f"{tidelake} sql {shlex.quote(change)} --data-dir {server.data}", place)
        assert (code, out) == (1, "") and "--url" in error, (change, code, out, error)
    code, _, error = shell(f"{tidelake} sql 'SELECT 1' --url {server.url} --data-dir {server.data}", place)
    assert code == 2 and "cannot be used with" in error, (code, error)
    assert objects(server.data) == before, "reading has changed the folder"

    code, out, error = shell(f"{tidelake} pull --data-dir {server.data} --into pulled --format json", place)
    assert code == 0 and json.loads(out)["rows"] == ROWS, (code, out, error)
    assert "measured: 500 rows" in error, error
    (Path(place) / "other").mkdir()
    with Tidelake(options.bin, Path(place) / "other", ["--data-dir", Path(place) / "pulled"]) as local:
        assert answers(f"--url {local.url}") == expected


def objects(data):
    """The server puts marks into its log, and records what it measures, meanwhile."""
    left_out = ("wal/", "catalog/", "data/_internal/", "lease/")
    paths = (path.relative_to(data) for path in Path(data).rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if not str(path).startswith(left_out))


def without_server(tidelake, server):
    """The server has ended, and the store is read all the same."""
    code, out, error = shell(f"{tidelake} sql --format csv 'SELECT count(*) AS n FROM measured' --data-dir {server.data}", server.data.parent)
    assert (code, out.split(), error) == (0, ["n", str(ROWS)], ""), (code, out, error)


def beside_writes(options, tidelake, place):
    """While a server writes, and flushes five times a second, a reader of its folder sees what was acknowledged before it began."""
    place.mkdir()
    acknowledged, ended = [0], threading.Event()

    def write(server):
        while not ended.is_set():
            server.lines("\n".join(f"busy n={n}i {n + 1}" for n in range(acknowledged[0], acknowledged[0] + 10)))
            acknowledged[0] += 10

    with Tidelake(options.bin, place, more=["--flush-interval-ms", "200"]) as server:
        server.lines("busy n=0i 1")
        writer = threading.Thread(target=write, args=[server])
        writer.start()
        try:
            for _ in range(10):
                before = acknowledged[0]
                code, out, error = shell(f"{tidelake} sql --format csv 'SELECT count(*) AS n FROM busy' --data-dir {server.data}", place)
                assert (code, error) == (0, ""), (code, error)
                assert before <= int(out.split()[1]) <= acknowledged[0] + 10, (before, out, acknowledged)
        finally:
            ended.set()
            writer.join()
    return f"10 reads beside {acknowledged[0]} writes"
