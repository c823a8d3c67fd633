"""The embedded engine as a child process, and statements over its HTTP interface."""

import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("TONGXING_PROGRAM", ROOT / "target" / "release" / "tongxing"))


class Refused(Exception):
    """A statement that the engine refuses, with its words."""


class Engine:
    """Runs `tongxing clickhouse` over a data folder until the `with` block ends."""

    def __init__(self, data, memory_bytes=8 << 30, program=PROGRAM):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % free.getsockname()[1]
        pathlib.Path(data).mkdir(parents=True, exist_ok=True)
        self.child = subprocess.Popen(
            [str(program), "clickhouse", "--data", str(data), "--listen", self.address,
             "--memory-bytes", str(memory_bytes), "--until-stdin-closes"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://{self.address}/ping", timeout=5).read()
                break
            except OSError:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the engine does not start")
                time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        try:
            self.child.wait(120)
        except subprocess.TimeoutExpired:
            self.child.kill()

    def text(self, sql, database="default", body=b"", timeout=1800, **settings):
        """What a statement answers, as text. A body is an insert's data."""
        parameters = {"database": database, **settings}
        if body:
            parameters["query"] = sql
        url = f"http://{self.address}/?{urllib.parse.urlencode(parameters)}"
        try:
            return urllib.request.urlopen(url, body or sql.encode(), timeout).read().decode()
        except urllib.error.HTTPError as error:
            raise Refused(error.read().decode()[:600] + "\n" + sql[:400]) from None

    def rows(self, sql, database="default", **settings):
        """Rows of a read, each a list of texts."""
        answer = self.text(sql, database, **settings)
        return [line.split("\t") for line in answer.splitlines()]

    def value(self, sql, database="default", **settings):
        """The only field of a read."""
        return self.rows(sql, database, **settings)[0][0]


def migrations():
    """Every migration's statements, in order."""
    for path in sorted((ROOT / "crates" / "warehouse" / "migrations").glob("*.sql")):
        lines = [line for line in path.read_text().splitlines() if not line.strip().startswith("--")]
        for statement in ("\n".join(lines) + "\n").split(";\n"):
            if statement.strip():
                yield statement.strip()
