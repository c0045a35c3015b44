"""umbel's side of the side-by-side benchmark: how its workers start and when they have settled.

Variant ``sqlite`` runs on the embedded broker and backend, in one file of the session's own.
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

PENDING = "SELECT count(*) FROM messages"
RESULTS = "SELECT count(*) FROM results"


class Umbel(Adapter):
    """Two processes, each consuming for itself; settings as they come."""

    name = venv = "umbel"
    app = "umbel_app"
    packages = ("umbel", "umbel-cli", "msgspec", "pluggy")
    brokers = ("redis",)
    no_results = True
    variants: ClassVar = {
        "noop": ["sqlite"],
        "live": ["sqlite"],
        "io": ["sqlite-asyncio", "sqlite-threads"],
        "cpu": ["sqlite"],
        "latency": ["sqlite"],
        "scale": ["sqlite"],
        "footprint": ["sqlite"],
        "payload": ["sqlite"],
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
        """A fresh database file for each session, on the disk that the system's temp folder is on."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = tempfile.mkdtemp(prefix="umbel-bench-db-")
        mode = "asyncio" if variant.endswith("asyncio") else "process"
        return {"BENCH_MODE": mode, "BENCH_UMBEL_URL": f"sqlite:///{self._path()}"}

    def _path(self):
        return Path(self._folder or ".") / "umbel.db"

    def workers(self, variant, broker, task):
        base = [self.python(), "-m", "umbel", "-A", "umbel_app", "worker"]
        if variant == "sqlite":
            return [[*base, "--pool", "process", "--concurrency", "2"]]
        pool = variant.partition("-")[2]
        return [[*base, "--pool", pool, "--processes", "2", "--concurrency", "50"]]

    def pending(self, h):
        return self._count(PENDING)

    def results(self, h):
        return self._count(RESULTS)

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
