"""The part of an app that makes signatures and results which belong to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from umbel.canvas import iterations, primitives
from umbel.results import group_result, result_set
from umbel.signatures import Signature, maybe_signature, signature

if TYPE_CHECKING:
    from umbel.results.lineage import AnyResult
    from umbel.results.source import ResultSource
    from umbel.sendable import SignatureSender


class CanvasMaking:
    """What `umbel.app.Umbel` makes workflows with. Not for use by itself.

    What is made is sent by this app; the functions of `umbel.canvas` use that of the tasks in it,
    or the current one.
    """

    _group_results: type[group_result.GroupResult[Any]] | None = None

    if TYPE_CHECKING:

        @property
        def results(self) -> ResultSource:
            """How results are read."""

    # -- signatures -----------------------------------------------------------------------------

    def signature(self, varies: Any, *args: Any, **kwargs: Any) -> Signature[Any]:
        """Return a signature of a task, a name or the JSON form of one; see `umbel.signature`."""
        return signature(varies, *args, **{**kwargs, "app": self})

    def maybe_signature(self, given: Any) -> Signature[Any] | None:
        """Return a signature for what is one, the JSON form of one, or None."""
        return maybe_signature(given, self)

    def chain(self, *tasks: Any, **options: Any) -> primitives.chain:
        """Return a chain; see `umbel.chain`."""
        return primitives.chain(*tasks, **options).bound_to(self._sender)

    def group(self, *tasks: Any, **options: Any) -> primitives.group:
        """Return a group; see `umbel.group`."""
        return primitives.group(*tasks, **options).bound_to(self._sender)

    def chord(self, header: Any, body: Any = None, **options: Any) -> primitives.chord:
        """Return a chord; see `umbel.chord`."""
        return primitives.chord(header, body, **options).bound_to(self._sender)

    def chunks(self, task: Any, it: Iterable[Any], n: int) -> iterations.chunks:
        """Return calls that each run `task` for `n` items; see `umbel.chunks`."""
        return iterations.chunks(task, it, n).bound_to(self._sender)

    def xmap(self, task: Any, it: Iterable[Any]) -> iterations.xmap:
        """Return one call that runs `task` for all items; see `umbel.xmap`."""
        return iterations.xmap(task, it).bound_to(self._sender)

    def xstarmap(self, task: Any, it: Iterable[Any]) -> iterations.xstarmap:
        """Return one call that runs `task` for the arguments in all items; see `umbel.xstarmap`."""
        return iterations.xstarmap(task, it).bound_to(self._sender)

    @property
    def _sender(self) -> SignatureSender:
        return cast("SignatureSender", self)

    # -- results --------------------------------------------------------------------------------

    @property
    def GroupResult(self) -> type[group_result.GroupResult[Any]]:  # noqa: N802 - Celery's name
        """The class of this app's groups of results: ``app.GroupResult.restore(group_id)``."""
        found = self._group_results
        if found is None:
            found = self._group_results = group_result.for_app(self.results)
        return found

    def ResultSet(  # noqa: N802 - Celery's name
        self, results: Iterable[AnyResult] = ()
    ) -> result_set.ResultSet[Any]:
        """Return results as one; see `umbel.ResultSet`."""
        return result_set.ResultSet(results, source=self.results)
