"""``umbel demo``: a real job, for a first look."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from umbel_cli.demo.corpus import PACKAGES, library_folder, source_files
from umbel_cli.demo.job import Job
from umbel_cli.demo.progress import shown
from umbel_cli.demo.report import as_document, next_steps, print_report
from umbel_cli.demo.summary import add_up, by_plain_loop
from umbel_cli.demo.tasks import FOLDER, app
from umbel_cli.demo.workers import DemoWorker
from umbel_cli.exits import ExitCode
from umbel_cli.output import print_json
from umbel_cli.state import CliState, pass_state


@click.command()
@click.option("--processes", type=click.IntRange(1), help="How many worker processes.")
@click.option("--limit", type=click.IntRange(1), help="Index only so many files.")
@click.option("--fresh", is_flag=True, help="Begin again, though a run was stopped half-way.")
@click.option("--verify", is_flag=True, help="Also count in a plain loop, and compare.")
@pass_state
def demo(
    state: CliState, processes: int | None, limit: int | None, fresh: bool, verify: bool
) -> None:
    """Index the Python standard library on this machine: one task a source file.

    Worker processes count lines, functions, classes and branches. Messages and results are kept
    in ./.umbel/demo.db; no server is needed. --broker and --result-backend try others. Stop it
    with Ctrl-C and start it again: it goes on where it was. The exit code is 1 if a task failed,
    or if --verify counts otherwise.
    """
    app.conf.update(state.overrides())
    files = source_files(limit=limit)
    count = processes or min(max(os.cpu_count() or 1, 2), 8)
    job = Job(files, fresh=fresh)
    if job.resumed:
        state.note(f"going on with the run that was stopped: {job.done} of {job.total} are done")
    more = " and of installed packages" if any(f.startswith(PACKAGES) for f in files) else ""
    state.note(f"indexing {job.total:,} files of {library_folder()}{more} in {count} processes")
    log = Path(FOLDER) / "demo-worker.log"
    if not job.resumed:
        log.unlink(missing_ok=True)
    worker = DemoWorker(count, log, state.override_options())
    color = click.get_current_context().color is not False
    try:
        with (
            _term_as_ctrl_c(),
            shown(job.total, done=job.done, quiet=state.quiet or state.json, color=color) as bar,
        ):
            result = job.run(worker, bar)
    except KeyboardInterrupt:
        state.note(
            f"\nstopped; {job.done} of {job.total} files are done. `umbel demo` goes on from here"
        )
        sys.exit(ExitCode.INTERRUPTED)
    plain = by_plain_loop(files) if verify else None
    if state.json:
        print_json(as_document(result, plain=plain))
    else:
        print_report(result, plain=plain, color=color)
        state.note(next_steps(result, options=state.override_options()))
    if result.failed or (plain is not None and plain != add_up(result.reports)):
        sys.exit(ExitCode.FAILED)


@contextmanager
def _term_as_ctrl_c() -> Iterator[None]:
    """End in order also where a service manager or `kill` asks for it."""

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
