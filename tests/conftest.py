"""What holds for every test: a folder of its own, no process left behind, no silent skip."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import settings
from server_process import kept_pids

#: Fixtures from tests/support that tests of several folders share.
pytest_plugins = ["redis_fixtures", "stores", "workflows.options"]

#: In CI a skipped test is a failed one: what isn't run there is never run.
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

# A deadline for an example only tells that a busy machine is busy. CI tries the same examples each
# time; finding new ones is for those who can look into them.
settings.register_profile("umbel", deadline=None, print_blob=True, derandomize=IN_CI)
settings.load_profile("umbel")

#: All processes that a test starts inherit this variable, also those that their parent left.
_TOKEN_NAME = "PYTEST_STARTED_BY"
_TOKEN = uuid.uuid4().hex
_TOKEN_BYTES = f"{_TOKEN_NAME}={_TOKEN}".encode()

#: Seconds that processes which are on their way out get at the end of a module.
_GRACE_S = 10.0


def pytest_configure(config: pytest.Config) -> None:
    """Mark the processes to come, and keep the user's own settings out."""
    os.environ[_TOKEN_NAME] = _TOKEN
    for name in [name for name in os.environ if name.startswith("UMBEL_")]:
        del os.environ[name]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in a folder of its own: the default broker is a file in the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Take back the logging that a worker in this process has set up."""
    logger = logging.getLogger("umbel")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    yield
    for handler in [handler for handler in logger.handlers if handler not in handlers]:
        if not type(handler).__module__.startswith("_pytest"):  # it takes its own away
            logger.removeHandler(handler)
            handler.close()
    logger.setLevel(level)
    logger.propagate = propagate


@pytest.fixture(autouse=True, scope="module")
def no_process_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """End what a module's tests left running, and fail for it."""
    yield
    deadline = time.monotonic() + _GRACE_S
    while (left := started_processes()) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in left:
        kill(pid)
    if left:
        listing = "\n".join(f"  {pid} {command}" for pid, command in left.items())
        pytest.fail(f"tests of this module left processes running:\n{listing}", pytrace=False)


def started_processes() -> Mapping[int, str]:
    """Return the processes that this run started and that live: id and command line."""
    if Path("/proc/self/environ").exists():
        found = started_by_token()
    elif os.name == "posix":
        found = started_by_parent()
    else:
        return {}
    kept = pids_of_multiprocessing() | kept_pids()
    return {pid: command for pid, command in found.items() if pid not in kept}


def started_by_token() -> dict[int, str]:
    """Find processes by the variable that they inherited (Linux)."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        try:
            # A process that has ended and only waits to be noticed has no environment.
            if pid == os.getpid() or _TOKEN_BYTES not in (folder / "environ").read_bytes():
                continue
            command = (folder / "cmdline").read_bytes()
        except OSError:  # gone meanwhile, or another user's
            continue
        found[pid] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def started_by_parent() -> dict[int, str]:
    """Find this process's own children (macOS, BSD): those that were left by them are missed."""
    table = subprocess.run(
        [shutil.which("ps") or "ps", "-A", "-o", "pid=,ppid=,stat=,command="],
        capture_output=True,
        text=True,
        check=True,
    )
    found = {}
    for line in table.stdout.splitlines():
        pid, parent, state, command = line.split(None, 3)
        if int(parent) == os.getpid() and not state.startswith("Z") and " -A -o " not in command:
            found[int(pid)] = command
    return found


def pids_of_multiprocessing() -> set[int | None]:
    """Return the helpers that multiprocessing keeps for this process's whole life.

    By id: what their command lines say is also that of every process that they fork.
    """
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    server = sys.modules.get("multiprocessing.forkserver")
    return {
        tracker._resource_tracker._pid if tracker else None,
        server._forkserver._forkserver_pid if server else None,
    }


def kill(pid: int) -> None:
    """End a process that this run started, at once."""
    try:
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    except ProcessLookupError:
        return


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None] | pytest.TestReport:
    """In CI, turn the skip of a test into its failure."""
    return fail_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Iterator[None] | pytest.CollectReport:
    """In CI, turn the skip of a whole module into its failure."""
    return fail_skipped((yield))


def fail_skipped(report):
    """Return `report`; as a failure if it is a skip (and no expected failure) in CI."""
    if IN_CI and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} is skipped, and CI allows no skips: {reason}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was skipped, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    terminalreporter.section("skipped here (a failure in CI)")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.line(f"{report.nodeid}: {reason}")
