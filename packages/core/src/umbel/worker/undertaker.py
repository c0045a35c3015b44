"""Recovery beside the supervisor: an outage that it waits out must not hold up anything else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umbel.worker.recovery import DeadChild, Recovery

#: Seconds between two looks at what an outage holds up; recovery itself makes longer pauses.
_AGAIN_S = 0.05


class Undertaker:
    """Carries a `Recovery` out in a thread of its own, which is the only one that touches it."""

    def __init__(self, recovery: Recovery, on_done: Callable[[], object]):
        """`on_done` is called, from the thread, each time that nothing is left."""
        self._recovery, self._on_done = recovery, on_done
        #: Guards what follows.
        self._changed = threading.Condition()
        self._added: list[DeadChild] = []
        self._is_busy = self._is_stopped = False
        self._thread: threading.Thread | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to recover."""
        with self._changed:
            return not (self._added or self._is_busy)

    def add(self, dead: DeadChild) -> None:
        """Recover what `dead` held, soon."""
        with self._changed:
            self._added.append(dead)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="umbel-recovery", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def stop(self) -> None:
        """Begin nothing more; doesn't wait for a call that an outage holds up."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()

    def _serve(self) -> None:
        while self._take():
            self._recovery.run()
            if self._recovery.is_done:
                with self._changed:
                    self._is_busy = False
                self._on_done()
            else:
                with self._changed:
                    self._changed.wait(_AGAIN_S)

    def _take(self) -> bool:
        """Hand over what was added, after a wait for it; False: the end."""
        with self._changed:
            while not (self._added or self._is_busy or self._is_stopped):
                self._changed.wait()
            for dead in self._added:
                self._recovery.add(dead)
                self._is_busy = True
            self._added.clear()
            return not self._is_stopped
