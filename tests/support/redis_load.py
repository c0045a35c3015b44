"""Tasks that are sent while something is being hurt, and what has become of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from project import Project, wait_for

from umbel.errors import UmbelError

#: Settings of a project whose publishers don't give up while a server is away.
PATIENT: dict[str, object] = {
    "task_publish_deadline_s": 60.0,
    "task_publish_retry_policy": {"max_retries": None, "interval_max": 0.2},
}


class Load:
    """Calls of ``tasks.work``, each with a key of its own."""

    def __init__(self, project: Project):
        self.project = project
        self.sent: dict[str, str] = {}

    def send(self, count: int, seconds: float = 0.0, *, batch: int = 50) -> None:
        """Send so many, by and by."""
        app = self.project.app
        for start in range(0, count, batch):
            keys = [str(len(self.sent) + i) for i in range(min(batch, count - start))]
            results = app.send_many(("tasks.work", (key, seconds)) for key in keys)
            self.sent.update(zip(keys, (result.id for result in results), strict=True))

    @contextmanager
    def sending(self, count: int, seconds: float = 0.0, *, batch: int = 50) -> Iterator[None]:
        """Send so many while a block runs, in another thread; all are sent after it."""
        failures: list[BaseException] = []

        def send() -> None:
            try:
                self.send(count, seconds, batch=batch)
            except BaseException as exc:
                failures.append(exc)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            thread.join(120)
        assert not thread.is_alive()
        if failures:
            raise failures[0]

    @property
    def done(self) -> int:
        """How many have run to their end."""
        return len(self.project.ledger("end"))

    def wait_done(self, count: int, describe: Callable[[], str] = lambda: "") -> None:
        """Wait until so many have run to their end."""
        wait_for(lambda: self.done >= count, 120, lambda: f"{self.done} done\n{describe()}")

    def check_none_lost(self, describe: Callable[[], str] = lambda: "") -> int:
        """Check that each has run and has its result, and nothing is left; return the repeats."""
        ids = list(self.sent.values())
        self.wait_done(len(ids), describe)
        wait_for(lambda: self._have_succeeded(ids), 60, describe)
        wait_for(self._is_empty, 60, describe)
        assert set(self.project.ledger("end")) == set(self.sent)
        return sum(times - 1 for times in self.project.ledger("begin").values())

    def _have_succeeded(self, ids: list[str]) -> bool:
        try:
            loaded = self.project.app.backend.load(ids)
        except UmbelError:  # it isn't back yet
            return False
        return all(each in loaded and loaded[each].state == "SUCCESS" for each in ids)

    def _is_empty(self) -> bool:
        try:
            stats = self.project.app.broker.stats("celery")
        except UmbelError:
            return False
        return (stats.ready, stats.held, stats.delayed, stats.dead) == (0, 0, 0, 0)
