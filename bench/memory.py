"""Watch the memory of a worker: python bench/memory.py [--url URL] [TASKS] [WORKER OPTION …]

Half of the tasks have a result that expires after a second, half have none. Tells the bytes that
child and supervisor have for themselves, their descriptors, and the size of the file. With a URL,
as ``redis://127.0.0.1:6380/0``, broker and backend are there, and no file is told of.
"""

from __future__ import annotations

import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from project import Project, wait_for

QUIET = """

@app.task(ignore_result=True)
def quiet(x):
    return x
"""
SAMPLES = 20


def own_mib(pid: int) -> float:
    """Return the MiB that a process shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss_Anon:"))


def is_empty(project: Project) -> bool:
    """Tell whether nothing waits or runs."""
    stats = project.app.broker.stats("celery")
    return not (stats.ready or stats.held)


def main(arguments: list[str]) -> None:
    """Send, wait, look; so many times."""
    place = {}
    if arguments[:1] == ["--url"]:
        _, url, *arguments = arguments
        place = {"broker": url, "backend": url}
    tasks, options = int(arguments[0]) if arguments else 200_000, arguments[1:]
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder) / "project", extra=QUIET, result_expires=1.0, **place)
        try:
            watch(project, tasks, options or ["-c", "1"])
        finally:
            project.close()


def watch(project: Project, tasks: int, options: list[str]) -> None:
    """Print a line for each sample."""
    worker = project.worker(*options)
    pids = {"supervisor": worker.process.pid, "child": worker.children()[0]}
    calls = iter([("tasks.quiet", (i,)) if i % 2 else ("tasks.add", (i, i)) for i in range(tasks)])
    began = time.monotonic()
    for sample in range(SAMPLES):
        project.app.send_many(islice(calls, tasks // SAMPLES))
        wait_for(lambda: is_empty(project), 600, worker.tell)
        found = [
            f"{name} {own_mib(pid):.2f} MiB, {len(list(Path(f'/proc/{pid}/fd').iterdir()))} fds"
            for name, pid in pids.items()
        ]
        file = project.database
        size = f"  file {file.stat().st_size / 1e6:.1f} MB" if file.exists() else ""
        done = (sample + 1) * (tasks // SAMPLES)
        print(f"{done:8} {time.monotonic() - began:7.1f} s  {'  '.join(found)}{size}")
    print("exit code", worker.stop())


if __name__ == "__main__":
    main(sys.argv[1:])
