"""What a running task does to the workflow that it is a part of."""

from __future__ import annotations

from typing import Any

from umbel.canvas.additions import addition, additions_in
from umbel.canvas.primitives import group, is_nothing
from umbel.canvas.replacing import as_chord, check_loose, replacement
from umbel.errors import BackendError, InvalidTaskError, Replace
from umbel.requests import Request, current_children, current_request
from umbel.signatures import Signature
from umbel.tasks.definition import TaskDefinition
from umbel.workflow_options import check_options


class WorkflowPart(TaskDefinition):
    """The part of a task that changes what comes of its run. Not for use by itself."""

    def replace(self, sig: Signature[Any]) -> Any:
        """End this run, and have `sig` run in the place of the task.

        What `sig` ends with has the task's id, callbacks, and place in its group or chord; the
        rest of the task's chain comes after it. Its errbacks are those of all of it. A group is
        replaced by the list of its results. Nothing is sent before the end of the run is settled.

        Args:
            sig: A signature of any kind.
        Raises:
            Replace: always, unless `on_replace` does something else.
            InvalidTaskError: `sig` is a part of a chord already, calls nothing, or has an option
                that no send has; nobody sent the task, so that there is nothing to replace.
        """
        request = current_request()
        if request.called_directly or request.id is None:
            raise InvalidTaskError(
                f"task {self.name!r} was called as a function, so nothing can replace it; call "
                f"{sig!r:.80} instead"
            )
        sig = Signature.from_dict(sig)
        if isinstance(sig, group) and is_nothing(sig):
            sig = as_chord(sig)  # it stands for a list, too: the empty one
        check_options(sig)
        check_loose(sig, "replace a task")
        return self.on_replace(replacement(sig, request))

    def on_replace(self, sig: Signature[Any]) -> Any:
        """Have `sig`, which has all that it needs, run in the place of the task.

        Override it to look at what replaces the task, or to change that.
        """
        raise Replace(sig)

    def add_to_chord(self, sig: Signature[Any], lazy: bool = False) -> Any:
        """Add `sig` to the parts of the chord that this task is a part of.

        It is sent when the task has succeeded; of a run that fails or is retried, nothing is
        added. The body waits for its result, and gets it beside that of this task.

        Args:
            sig: A signature of any kind; a group is one part, the list of its results.
            lazy: Don't send it, and return the signature. It counts from now on: whoever calls
                this sends it, or the chord is never over.
        Returns: Its result, or the signature.
        Raises:
            InvalidTaskError: the task is a part of no chord, or `sig` is a part of one already,
                calls nothing or has an option that no send has.
            BackendError: `lazy`, and parts can't be counted now.
        """
        request, children = current_request(), current_children()
        known: list[Any] = [] if children is None else children
        sig = Signature.from_dict(sig)
        check_options(sig)
        added = addition(sig, request, len(additions_in(known)), is_sent=not lazy)
        if lazy and not request.is_eager:
            self._grow_now(request, added.task_id)
        known.append(added)
        return added.signature.bound_to(self._app) if lazy else self._app.AsyncResult(added.task_id)

    def _grow_now(self, request: Request, task_id: str) -> None:
        backend = self._app.backend
        if backend is None:
            raise BackendError("no chord can grow without a result backend; set result_backend")
        backend.grow_chord(request.group or "", [task_id], ttl_s=self._app.conf.canvas_expires)
