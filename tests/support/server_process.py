"""A private server for tests: a process on free loopback ports, started, hurt and ended by its id."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

#: Below what systems give to outgoing connections, so that a server that is down keeps its port.
PORTS = range(10_240, 22_000)
#: A Redis of a Cluster listens this far above its port as well.
BUS_DISTANCE = 10_000
START_TIMEOUT_S = 60.0


class ServerProcess(ABC):
    """A server that lives in a folder and can be killed, stopped, frozen and started again."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.log_path = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @abstractmethod
    def command(self) -> list[str]:
        """Return the program and its arguments, having written what they name."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the server does its work."""

    @abstractmethod
    def lost_its_port(self, log: str) -> bool:
        """Tell from its log whether a process ended since somebody else had the port."""

    @property
    def pid(self) -> int | None:
        """The process's id; None: there is none now."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self, *, any_port: bool = True) -> None:
        """Start it and wait until it answers.

        With `any_port` it goes elsewhere when its port is taken; otherwise it waits for the port.
        """
        ends_at = time.monotonic() + START_TIMEOUT_S
        while not self._came_up(ends_at):
            if any_port:
                self.port = free_port()
            else:
                time.sleep(0.05)

    def _came_up(self, ends_at: float) -> bool:
        """Start a process; tell whether it answers. False: its port was taken."""
        self.log_path.unlink(missing_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._paused = False
        while self._process.poll() is None:
            if self.answers():
                return True
            if time.monotonic() > ends_at:
                self.kill()
                raise RuntimeError(f"{self} didn't come up in {START_TIMEOUT_S} s\n{self.log}")
            time.sleep(0.005)
        if not self.lost_its_port(self.log) or time.monotonic() > ends_at:
            raise RuntimeError(f"{self} ended with {self._process.returncode}\n{self.log}")
        return False

    @property
    def log(self) -> str:
        """The end of what its last process has said."""
        return self.log_path.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        self.resume()
        self._end(signal.SIGTERM)

    def _end(self, signum: int) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signum)
        self._process.wait(30)
        self._process = None
        self._paused = False

    def restart(self) -> None:
        """Kill it where it runs, and start it on the same port with the same folder."""
        self.kill()
        self.start(any_port=False)

    def pause(self) -> None:
        """Freeze it: it keeps its connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Let it go on after `pause`."""
        if self._paused and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self._paused = False

    def close(self) -> None:
        """End it, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(port={self.port}, pid={self.pid})"


#: Servers that serve more than one module; tests/conftest.py lets them live until the end.
_kept: list[ServerProcess] = []


def keep(server: ServerProcess) -> None:
    """Let a server outlive the modules of tests that use it; who keeps it also ends it."""
    _kept.append(server)


def kept_pids() -> set[int | None]:
    """Return the ids of the processes that outlive a module."""
    return {server.pid for server in _kept}


@atexit.register
def kill_kept() -> None:
    """End what is left when the run ends as no run should."""
    for server in _kept:
        server.kill()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens at, nor `BUS_DISTANCE` above it."""
    chance = random.Random(os.urandom(8))
    for _ in range(1000):
        port = chance.choice(PORTS)
        if is_free(port) and is_free(port + BUS_DISTANCE):
            return port
    raise RuntimeError(f"no free port between {PORTS.start} and {PORTS.stop}")


def is_free(port: int) -> bool:
    """Tell whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
