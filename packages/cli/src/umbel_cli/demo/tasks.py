"""The demo's app: one task, which looks at one source file of the standard library."""

from __future__ import annotations

import os

from umbel import Umbel
from umbel_cli.demo.analysis import SourceReport, analyse
from umbel_cli.demo.corpus import source_path

#: Where the demo keeps its messages, results and notes: below the folder it is started in.
FOLDER = ".umbel"
QUEUE = "demo"
_STORE = f"sqlite:///{FOLDER}/demo.db"

app = Umbel(
    "umbel-demo",
    # What code says wins over the environment, and here it shouldn't.
    broker=os.environ.get("UMBEL_BROKER_URL") or _STORE,
    backend=os.environ.get("UMBEL_RESULT_BACKEND") or _STORE,
    task_default_queue=QUEUE,
    # What a killed worker held is taken over after this: a demo shouldn't make people wait.
    worker_lease_s=5.0,
)


class FileReport(SourceReport):
    """What was counted in a file, and by which process."""

    file: str
    pid: int


@app.task(resultrepr_maxsize=120)  # for the log
def index_file(file: str) -> FileReport:
    """Count what is in `file`, as `umbel_cli.demo.corpus` names it."""
    source = source_path(file).read_bytes()
    return {"file": file, "pid": os.getpid(), **analyse(source)}
