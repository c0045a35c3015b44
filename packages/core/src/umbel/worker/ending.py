"""The end of a worker, which no broker or backend that doesn't answer may hold up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger("umbel.worker")

#: Seconds that taking leave may last.
_END_S = 3.0


class Ending:
    """Takes leave of a worker's broker and backend, as far as they let it."""

    def __init__(self) -> None:
        #: Something didn't answer, and a thread still waits for it.
        self.was_cut_short = False

    def take(self, *steps: Callable[[], object]) -> None:
        """Do `steps` in order, for a few seconds at most; an error in one is logged."""
        if self.was_cut_short:
            return
        thread = threading.Thread(target=_do, args=(steps,), name="umbel-end", daemon=True)
        thread.start()
        thread.join(_END_S)
        if thread.is_alive():
            self.was_cut_short = True
            logger.warning(
                "broker or backend don't answer; ending without a word to them: what this node "
                "holds goes to others when its lease runs out"
            )


def _do(steps: tuple[Callable[[], object], ...]) -> None:
    for step in steps:
        try:
            step()
        except Exception:
            logger.exception("the worker did not end in order")
