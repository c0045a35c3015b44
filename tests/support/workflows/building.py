"""Signatures of the workflows that `nodes` describes."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from umbel import chain, chord, group
from umbel.signatures import Signature
from workflows.nodes import EXPIRE, RETURN, Chain, Chord, Group, Node, Task
from workflows.tasks import CALL
from workflows.values import OWN

if TYPE_CHECKING:
    from umbel import Umbel

#: What expires then has expired.
_LONG_AGO = "1970-01-02T00:00:00+00:00"


class Builder:
    """Makes signatures of an app's tasks.

    Args:
        app: The app.
        flow: Which workflow it is, for the ledger.
    """

    def __init__(self, app: Umbel, flow: str = "") -> None:
        self._app, self._flow = app, flow

    def build(self, node: Node) -> Signature[Any]:
        """Return the signature of `node`."""
        made = self._made(node)
        for each in node.links:
            made = made.link(self.build(each))
        for each in node.errbacks:
            made = made.link_error(self.build(each))
        return made.bound_to(self._app)  # an empty group has the app of no member

    def _made(self, node: Node) -> Signature[Any]:
        match node:
            case Task():
                return self._call(node)
            case Chain():
                steps = [self.build(each) for each in node.steps]
                return reduce(or_, steps) if node.is_piped and steps else chain(steps)
            case Group():
                return group(self.build(each) for each in node.members)
            case Chord():
                header = [self.build(each) for each in node.header]
                return chord(header, self.build(node.body), on_failure=node.policy)

    def _call(self, task: Task) -> Signature[Any]:
        kwargs: dict[str, Any] = {"tag": task.tag}
        if self._flow:
            kwargs["flow"] = self._flow
        if task.does != RETURN:
            kwargs["does"] = task.does
        if task.retries:
            kwargs["retries"] = task.retries
        if task.by is not None:
            kwargs["by"] = self.build(task.by).to_dict()
        if task.adds is not None:
            kwargs["adds"] = self.build(task.adds).to_dict()
        options: dict[str, Any] = {}
        if task.does == EXPIRE:
            options["expires"] = _LONG_AGO
        if task.is_quiet:
            options["ignore_result"] = True
        args = (OWN,) if task.has_own else ()
        return Signature(CALL, args, kwargs, options, immutable=task.is_immutable, app=self._app)
