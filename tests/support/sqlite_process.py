"""A process of its own that uses an SQLite broker: run as a program, driven by its standard input.

    python sqlite_process.py URL COMMAND [ARGUMENT …]

It says ``ready`` on its standard output once it is set up.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from umbel.builtin.sqlite.broker import SqliteBroker
from umbel.clock import SYSTEM_CLOCK
from umbel.ids import new_id
from umbel.messages import Delivery, Malformed, Message

LEASE_S = 1.0


class Process:
    """One such process, seen from the test."""

    def __init__(self, url: str, *command: object):
        self._popen = subprocess.Popen(
            [sys.executable, __file__, url, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def alive(self) -> bool:
        """Tell whether it runs."""
        return self._popen.poll() is None

    def line(self) -> str:
        """Return the next line that it says; "" at its end."""
        assert self._popen.stdout is not None
        return self._popen.stdout.readline().strip()

    def tell(self, line: str) -> None:
        """Send it a line."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{line}\n")
        self._popen.stdin.flush()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._popen.kill()
        self.join()

    def join(self) -> int:
        """Wait for its end; return its exit code."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        code = self._popen.wait(60)
        self._popen.stdin.close()
        self._popen.stdout.close()
        return code


def open_broker(url: str) -> SqliteBroker:
    """Return a new handle."""
    return SqliteBroker(url, options={}, clock=SYSTEM_CLOCK)


def message(task_id: str, queue: str = "celery", **fields: object) -> Message:
    """Return a message of a task without arguments."""
    headers = {"task": "t", "id": task_id, **fields.pop("headers", {})}
    return Message(
        id=task_id, task="t", queue=queue, headers=headers, body=b"[[], {}, {}]", **fields
    )


def task_id(delivery: Delivery) -> str:
    """Return the id of a delivered message."""
    assert not isinstance(delivery.message, Malformed), delivery.message.reason
    return delivery.message.id


def say(line: object) -> None:
    print(line, flush=True)


def check(broker: SqliteBroker) -> None:
    """Set everything up; used to start many at once."""
    say("ready")
    sys.stdin.readline()
    broker.check()
    broker.send([message(new_id())])
    say("done")


def drain(broker: SqliteBroker, ledger: str, batch: str, patience_s: str) -> None:
    """Take and ack until nothing comes for a while; note each message in the ledger."""
    node = new_id()
    broker.join(node, new_id(), lease_s=LEASE_S)
    notes = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    say("ready")
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < float(patience_s):
        broker.renew(node, lease_s=LEASE_S)
        broker.recover_expired()
        deliveries = broker.receive(["celery"], max_messages=int(batch), wait_s=0.1)
        if deliveries:
            os.write(notes, "".join(f"{task_id(one)}\n" for one in deliveries).encode())
            broker.ack(deliveries)
            idle_since = time.monotonic()
    broker.leave(node)


def send(broker: SqliteBroker, batch: str) -> None:
    """Send one batch after the other for ever; say the number of each that was accepted."""
    say("ready")
    number = 0
    while True:
        broker.send([message(f"{number}-{index}") for index in range(int(batch))])
        say(number)
        number += 1


def listen(broker: SqliteBroker, queue: str) -> None:
    """Take one message after the other; say when each came, in seconds since it was sent."""
    broker.join(new_id(), new_id(), lease_s=60.0)
    say("ready")
    while True:
        for delivery in broker.receive([queue], max_messages=1, wait_s=60.0):
            came_at = time.time()
            assert isinstance(delivery.message, Message)
            broker.ack([delivery])
            say(came_at - delivery.message.headers["sent_at"])


def hold(broker: SqliteBroker, node: str) -> None:
    """Take all of the queue and hold it until killed."""
    broker.join(node, new_id(), lease_s=LEASE_S)
    broker.receive(["celery"], max_messages=1000, wait_s=10.0)
    say("ready")
    sys.stdin.readline()


def lock(broker: SqliteBroker) -> None:
    """Keep every other writer out until told to end."""
    broker.check()
    with broker._store._opened()._lock:
        cx = broker._store._opened()._connection()
        cx.execute("BEGIN IMMEDIATE")
        say("ready")
        sys.stdin.readline()
        cx.execute("ROLLBACK")


if __name__ == "__main__":
    handle = open_broker(sys.argv[1])
    globals()[sys.argv[2]](handle, *sys.argv[3:])
    handle.close()


def read_ledger(path: Path) -> list[str]:
    """Return the ids that `drain` noted."""
    return path.read_text().splitlines() if path.exists() else []
