"""A queue is a folder, and a message is a file in it: ``{place}.{due}.{token}.{ready|held}``.

A file is taken by renaming it, which one process wins. A lock on the file then says that this
process lives: the system frees it when the process ends, however it ends. Times are nanoseconds.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from umbel.clock import Clock
from umbel.errors import BrokerError, BrokerUnavailableError, ConfigError
from umbel.interfaces.broker import Broker, Capability
from umbel.messages import Delivery, Malformed, Message

_NAMES, _POLL_S = "*.*.*.*", 0.05


class DirectoryBroker(Broker):
    """Keeps messages below the folder that its URL names, as in ``directory:///var/jobs``."""

    capabilities = frozenset({Capability.DELAY, Capability.DURABLE, Capability.SHARED})

    def __init__(self, url: str, *, options: Mapping[str, Any], clock: Clock):
        if options or url.endswith("://"):
            raise ConfigError(f"{url!r} must be directory://path, and it takes no options")
        self._root, self._clock = Path(url.partition("://")[2]).absolute(), clock
        self._locks, self._interrupted = dict[str, ExitStack](), threading.Event()

    def send(self, messages: Sequence[Message]) -> None:
        """Write the files under shorter names, which nobody looks at, then rename them all."""
        with _umbels_errors():
            files = {self._new_path(each): msgspec.json.encode(each) for each in messages}
            for path, data in files.items():
                with path.with_suffix("").open("wb", buffering=0) as file:
                    file.write(data)
                    os.fsync(file.fileno())
            for path in files:
                path.with_suffix("").rename(path)

    def receive(self, queues: Sequence[str], *, max_messages: int, wait_s: float) -> list[Delivery]:
        """Look until there are files that are due and that no living process has."""
        ends_at = time.monotonic() + wait_s
        while not (taken := list(islice(self._take(queues), max_messages))):
            if time.monotonic() >= ends_at or self._interrupted.wait(_POLL_S):
                break
        self._interrupted.clear()
        return taken

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Delete the files; what has another name by now isn't held any more."""
        return [each for each in deliveries if not self._let_go(each, None)]

    def nack(self, deliveries: Sequence[Delivery], *, delay_s: float = 0.0) -> None:
        """Make the files ready again, at their old place."""
        due = int((self._clock.time() + delay_s) * 1e9) if delay_s else 0
        for each in deliveries:
            self._let_go(each, f"{each.receipt}.{due}.{each.token}.ready")

    def interrupt(self) -> None:
        """Have a `receive` that waits return."""
        self._interrupted.set()

    def close(self) -> None:
        """Free the locks: what was held goes to others."""
        while self._locks:
            self._locks.popitem()[1].close()

    def _path(self, queue: str, name: str) -> Path:
        folder = self._root / quote(f"{queue}.queue", safe="")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def _new_path(self, message: Message) -> Path:
        place = f"{int(self._clock.time() * 1e9):020d}-{os.urandom(8).hex()}"
        return self._path(message.queue, f"{place}.{int((message.due_at or 0) * 1e9)}.0.ready")

    def _take(self, queues: Sequence[str]) -> Iterator[Delivery]:
        """Take files one by one, as they are asked for, of those that are there now."""
        with _umbels_errors():
            found = [(q, path) for q in queues for path in sorted(self._path(q, "").glob(_NAMES))]
        for queue, path in found:
            place, due, times, _ = path.name.split(".")
            held = f"{place}.0.{int(times) + 1}.held"
            if int(due) <= int(self._clock.time() * 1e9):
                with suppress(OSError), ExitStack() as stack:  # an error: somebody else has it
                    file = stack.enter_context(path.open("rb"))
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    message = _decode(file.read())
                    path.rename(path.with_name(held))
                    self._locks[held] = stack.pop_all()
                    yield Delivery(
                        message=message, queue=queue, receipt=place, token=int(times) + 1
                    )

    def _let_go(self, delivery: Delivery, name: str | None) -> bool:
        """Rename or delete a held file, then free its lock; False: it wasn't held any more."""
        held = f"{delivery.receipt}.0.{delivery.token}.held"
        with _umbels_errors(), suppress(FileNotFoundError), self._locks.pop(held, ExitStack()):
            path = self._path(delivery.queue, held)
            path.rename(path.with_name(name)) if name else path.unlink()
            return True
        return False


def _decode(data: bytes) -> Message | Malformed:
    try:
        return msgspec.json.decode(data, type=Message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Malformed(raw=data, reason=str(error))


@contextmanager
def _umbels_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BrokerUnavailableError(f"the directory can't be used: {error}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise BrokerError(f"a message can't be written as JSON: {error}") from error
