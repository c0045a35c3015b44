"""Where the pieces of workflows are kept that are too much to travel in a message.

They are kept with the coordinator, in the encoding that arguments travel in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from umbel.canvas.expansion import Expansion
from umbel.canvas.primitives import chain
from umbel.canvas.references import Piece, stored
from umbel.canvas.replacing import resolved
from umbel.errors import DecodeError, EncodeError, UmbelError
from umbel.signatures import Signature

if TYPE_CHECKING:
    from umbel.canvas.expansion import ChordSize
    from umbel.canvas.freezing import NewId
    from umbel.interfaces.coordinator import Coordinator
    from umbel.interfaces.serializer import Serializer
    from umbel.settings import Settings

logger = logging.getLogger("umbel.workflows")

_PREFIX = "workflow:"
#: What the keys of results begin with that the body of a chord gets.
RESULTS_PREFIX = "results:"
#: Seconds that a piece is kept once it has been passed on, for who is about to do so again; and
#: results once a call has had them, for the others of a group that get them, too.
_PASSED_ON_S, _HAD_S = 3600.0, 86400.0


class Opened(Protocol):
    """What is told of chords that begin."""

    def open_chord(
        self, group_id: str, size: int, *, ttl_s: float | None, body: bytes | None = None
    ) -> None:
        """Say how many parts a chord has, and what it ends with."""

    def chord_body(self, group_id: str) -> bytes | None:
        """Return what a chord ends with that is open."""


class WorkflowStore:
    """Keeps pieces for one app.

    Args:
        conf: The app's settings.
        coordinator: Returns this process's handle; None where there is no coordinator.
        serializer: Returns a serializer by name or content type.
    """

    def __init__(
        self,
        conf: Settings,
        coordinator: Callable[[], Coordinator | None],
        serializer: Callable[[str], Serializer],
    ) -> None:
        self._coordinator, self._serializer = coordinator, serializer
        self._writes: Serializer = serializer(conf.task_serializer)
        self._accepted = frozenset(
            serializer(name).content_type for name in (*conf.accept_content, conf.task_serializer)
        )
        self._ttl_s: float = conf.canvas_expires
        self._max_inline: int | None = conf.canvas_max_inline
        self._celery = conf.canvas_semantics == "celery"

    @property
    def max_inline(self) -> int | None:
        """How many calls may be embedded in a message; None: any, as nothing can be kept."""
        if self._max_inline is None or self._coordinator() is None:
            return None
        return self._max_inline

    @property
    def is_usable(self) -> bool:
        """Whether there is anywhere to keep something."""
        return self._coordinator() is not None

    def expansion(self, new_id: NewId) -> Expansion:
        """Return an empty expansion, whose pieces can be kept here, with ids from `new_id`."""
        return Expansion(new_id, max_inline=self.max_inline, celery=self._celery)

    @property
    def ttl_s(self) -> float:
        """Seconds that a workflow may stand still."""
        return self._ttl_s

    def keep(self, pieces: Iterable[Piece]) -> None:
        """Keep `pieces`; repeatable.

        Raises: EncodeError: an argument can't be encoded. BackendUnavailableError.
        """
        for piece in pieces:
            self.put(piece.key, piece.signature.to_dict(), ttl_s=self._ttl_s)

    def load(self, signature: Signature[Any]) -> Signature[Any]:
        """Return what a reference stands for; itself where that is gone, or it isn't one.

        What can't be read is as good as gone.

        Raises: BackendUnavailableError.
        """
        if not isinstance(signature, stored):
            return signature
        try:
            found = self.get(signature.key)
            if found is None:
                return signature
            # A reference that much comes after may have been too much to embed, too.
            return self._begun(self.load(resolved(signature, Signature.from_dict(found))))
        except UmbelError as exc:
            if isinstance(exc, OSError):
                raise
            logger.error("the piece %r of a workflow can't be read: %s", signature.key, exc)
            return signature

    def _begun(self, signature: Signature[Any]) -> Signature[Any]:
        """Return `signature`; a chain that begins with a reference with what that stands for."""
        if not isinstance(signature, chain) or not signature.tasks:
            return signature
        first, *rest = signature.tasks
        if not isinstance(first, stored):
            return signature
        steps = chain([self.load(first), *rest], **signature.options)
        return steps.with_extra(**signature.extra)

    def passed_on(self, keys: Sequence[str]) -> None:
        """Keep pieces for a while only: what they hold has been sent on."""
        coordinator = self._coordinator()
        if coordinator is None or not keys:
            return
        names = {_PREFIX + key: key for key in keys}
        for name, data in coordinator.get(list(names)).items():
            are_results = names[name].startswith(RESULTS_PREFIX)
            coordinator.put(name, data, ttl_s=_HAD_S if are_results else _PASSED_ON_S)

    def put(self, key: str, value: Any, *, ttl_s: float) -> None:
        """Keep any value that can be an argument of a task."""
        coordinator = self._coordinator()
        if coordinator is None:
            raise DecodeError("there is no coordinator, so no piece of a workflow can be kept")
        coordinator.put(_PREFIX + key, self._packed(value), ttl_s=ttl_s)

    def get(self, key: str) -> Any:
        """Return a value that was kept; None where it is gone. Raises: DecodeError."""
        coordinator = self._coordinator()
        if coordinator is None:
            return None
        data = coordinator.get([_PREFIX + key]).get(_PREFIX + key)
        return None if data is None else self._unpacked(data)

    def open_chords(
        self, counter: Opened, chords: Iterable[ChordSize], *, expires_s: float | None
    ) -> None:
        """Say how many parts `chords` have, and what they end with; repeatable.

        Args:
            counter: Counts their parts.
            chords: Chords, and groups whose members are counted.
            expires_s: Seconds for which the count of a group is kept; None: for ever.
        """
        for each in chords:
            if each.body is None:
                counter.open_chord(each.group_id, each.size, ttl_s=expires_s)
                continue
            body: bytes | None = None
            # Its parts may be encoded by another serializer, which can.
            with suppress(EncodeError):
                body = self._packed(each.body)
            counter.open_chord(each.group_id, each.size, ttl_s=self._ttl_s, body=body)

    def chord_body(self, counter: Opened, group_id: str) -> Any:
        """Return what a chord ends with, of which `counter` was told so; None where it wasn't.

        Raises: DecodeError: it can't be read. BackendUnavailableError.
        """
        data = counter.chord_body(group_id)
        return None if data is None else self._unpacked(data)

    def _packed(self, value: Any) -> bytes:
        return self._writes.content_type.encode() + b"\n" + self._writes.dumps(value)

    def _unpacked(self, data: bytes) -> Any:
        content_type, _, body = data.partition(b"\n")
        name = content_type.decode("ascii", "replace")
        if name not in self._accepted:
            raise DecodeError(f"a piece of a workflow is encoded as {name!r:.80}, not accepted")
        return self._serializer(name).loads(body)
