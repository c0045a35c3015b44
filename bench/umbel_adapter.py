"""umbel's side of the side-by-side benchmark: how its workers start and when they have settled.

Variants that begin with ``redis`` run on the session's Redis: messages in database 0, results in
database 1, as for all peers. Those that begin with ``sqlite`` run on the embedded broker and
backend, in one file of the session's own.
The benchmark finds this file through the folder that ``$UMBEL_BENCH_EXTRA`` names.
"""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from typing import ClassVar

from adapters import Adapter

#: The lists of the queue "celery", and what is kept beside each.
LANES = ["celery", *(f"celery\x06\x16{step}" for step in (3, 6, 9))]
PENDING = "SELECT count(*) FROM messages"
RESULTS = "SELECT count(*) FROM results"


class Umbel(Adapter):
    """Two processes, each consuming for itself; settings as they come.

    But for one: the coordinator is in database 0, so that database 1 holds results alone.
    """

    name = venv = "umbel"
    app = "umbel_app"
    packages = ("umbel", "umbel-cli", "umbel-broker-redis", "msgspec", "pluggy", "hiredis")
    brokers = ("redis",)
    no_results = True
    variants: ClassVar = {
        "noop": ["redis", "sqlite"],
        "live": ["redis", "sqlite"],
        "io": ["redis-asyncio", "redis-threads", "sqlite-asyncio", "sqlite-threads"],
        "cpu": ["redis", "sqlite"],
        "latency": ["redis", "redis-one", "sqlite"],
        "canvas": ["redis", "sqlite"],
        "scale": ["redis", "sqlite"],
        "footprint": ["redis", "sqlite"],
        "payload": ["redis", "sqlite"],
    }
    _folder = None

    def python(self, broker="redis"):
        return os.environ.get("UMBEL_PYTHON") or super().python(broker)

    def missing(self, broker="redis"):
        if not Path(self.python()).exists():
            return f"umbel is not installed: no interpreter at {self.python()}"
        probe = subprocess.run(
            [self.python(), "-c", "import umbel, umbel_cli"],
            capture_output=True,
            text=True,
            check=False,
        )
        if probe.returncode:
            return "umbel is not importable: " + (probe.stderr.strip().splitlines() or ["?"])[-1]
        return None

    def env(self, variant, broker, results=True):
        """Where messages and results are; sqlite has a fresh file for each session."""
        mode = "asyncio" if variant.endswith("asyncio") else "process"
        if variant.startswith("redis"):
            self._folder = None
            return {"BENCH_MODE": mode, "BENCH_UMBEL_URL": ""}
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = tempfile.mkdtemp(prefix="umbel-bench-db-")
        return {"BENCH_MODE": mode, "BENCH_UMBEL_URL": f"sqlite:///{self._path()}"}

    def _path(self):
        return Path(self._folder or ".") / "umbel.db"

    def workers(self, variant, broker, task):
        base = [self.python(), "-m", "umbel", "-A", "umbel_app", "worker"]
        if "-" not in variant or variant == "redis-one":
            count = "1" if variant == "redis-one" else "2"
            return [[*base, "--pool", "process", "--concurrency", count]]
        pool = variant.partition("-")[2]
        return [[*base, "--pool", pool, "--processes", "2", "--concurrency", "50"]]

    def pending(self, h):
        if self._folder:
            return self._count(PENDING)
        waiting = sum(h.r0("LLEN", lane) for lane in LANES)
        return waiting + sum(self._held(h, f"umbel:{{{lane}}}:") for lane in LANES)

    @staticmethod
    def _held(h, own):
        consumers = [name.decode() for name in h.r0("HKEYS", f"{own}consumers")]
        return sum(h.r0("HLEN", f"{own}pending:{consumer}") for consumer in consumers)

    def results(self, h):
        return self._count(RESULTS) if self._folder else h.r1("DBSIZE")

    def _count(self, query):
        if not self._path().exists():
            return 0
        connection = sqlite3.connect(f"file:{self._path()}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(query).fetchone()[0]
        except sqlite3.OperationalError:
            return 0
        finally:
            connection.close()


ADAPTER = Umbel()
