"""The demo's workers: `umbel worker` as anybody would start it, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_STOP_PATIENCE_S = 15.0
_LOG_LINES = 12


class DemoWorker:
    """A worker node that leaves nothing behind.

    It drains the queue and ends (``--burst``), so that nothing runs for ever even where this
    process is killed outright.

    Args:
        processes: How many child processes.
        log: File that its output goes to.
        options: More of `umbel worker`.
    """

    def __init__(self, processes: int, log: Path, options: Sequence[str] = ()) -> None:
        self._processes, self._log, self._options = processes, log, options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the node."""
        command = [
            *(sys.executable, "-m", "umbel", "-A", "umbel_cli.demo.tasks", "worker"),
            *("--pool", "process", "--concurrency", str(self._processes), "--burst"),
            *("--loglevel", "INFO", "--hostname", f"demo-{os.getpid()}@%h"),
            *self._options,
        ]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(  # a group of its own: Ctrl-C reaches it through us
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    def exit_code(self) -> int | None:
        """Return the node's exit code; None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """Have the node give back what it hasn't started, finish what runs, and end."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        # Windows has no SIGTERM for other processes; its Ctrl-Break is what a node listens to.
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        try:
            process.wait(_STOP_PATIENCE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C is impatience
            _kill_group(process)
            process.wait()

    def last_words(self) -> str:
        """Return the end of what the node wrote."""
        try:
            lines = self._log.read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-_LOG_LINES:])


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a node and its children at once; what they held comes back when their lease ends."""
    if sys.platform == "win32":
        process.kill()  # its children notice, give back what they hold, and end
    else:
        os.killpg(process.pid, signal.SIGKILL)
