"""Workflows tried on a worker, and the smallest one that fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from umbel import Umbel
from umbel.signatures import Signature
from umbel_testing import drain
from workflows.building import Builder
from workflows.nodes import EXPIRE, Node, Task, below, simpler
from workflows.observing import differences, differences_of_value
from workflows.reference import is_fine
from workflows.tasks import Run, add_call

#: Returns in what way a workflow didn't come to what it must.
Trial = Callable[[Node], list[str]]
_TRIES = 2000


class Drained:
    """Tries workflows in this thread, on an app of its own.

    Args:
        is_read: Send signatures that were made JSON and read again.
        **settings: Of the app.
    """

    def __init__(self, *, is_read: bool = False, **settings: Any) -> None:
        settings = {"broker": "memory://workflows", "backend": "memory://workflows", **settings}
        self.app = Umbel("workflows", **settings)
        self.runs: list[Run] = []
        add_call(self.app, self.runs.append)
        self._builder, self._is_read = Builder(self.app), is_read

    def __call__(self, node: Node) -> list[str]:
        """Return in what way `node` didn't come to what it must."""
        try:
            result = self.sent(node)
            drain(self.app)
        except Exception as exc:
            return [f"{type(exc).__name__}: {exc}"]
        return differences(self.app, node, result, self.runs)

    def sent(self, node: Node) -> Any:
        """Send `node`; return its result."""
        self.runs.clear()
        signature = self._builder.build(node)
        if self._is_read:
            signature = Signature.from_dict(json.loads(json.dumps(signature.to_dict())))
            signature = signature.bound_to(self.app)
        return signature.apply_async()

    def close(self) -> None:
        """Free what it has."""
        self.app.close()


class Local(Drained):
    """Tries workflows by `apply`: no messages, and no expiry."""

    def __call__(self, node: Node) -> list[str]:
        """Return in what way `node` didn't come to what it must."""
        if any(isinstance(each, Task) and each.does == EXPIRE for each in below(node)):
            return []
        self.runs.clear()
        try:
            result = self._builder.build(node).apply(throw=False)
        except Exception as exc:
            return [f"{type(exc).__name__}: {exc}"]
        return differences_of_value(node, result, self.runs)


def smallest(node: Node, trial: Trial) -> tuple[Node, list[str]]:
    """Return the simplest workflow found that fails as `node` does, and in what way."""
    told = trial(node)
    left = _TRIES
    is_simpler = True
    while is_simpler and left > 0:
        is_simpler = False
        for each in filter(is_fine, simpler(node)):
            left -= 1
            of_each = trial(each)
            if of_each:
                node, told, is_simpler = each, of_each, True
                break
            if left <= 0:
                break
    return node, told
