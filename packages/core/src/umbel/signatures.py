"""A call of a task as data: name, arguments and options, to be sent now or later.

Immutable: every modifier returns a copy. `to_dict` is Celery's JSON form and
``from_dict(sig.to_dict()) == sig``. Composition (chain, group, chord) builds on this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from umbel.errors import DecodeError


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """A call of the task named `task`.

    With `immutable`, a parent's result isn't put before the arguments.
    """

    task: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}
    immutable: bool = False
    subtask_type: str | None = None
    #: Keys of other makers, kept as they are.
    extra: dict[str, Any] = {}

    def clone(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Return a copy with `args` put before its own, and `kwargs` and `options` merged in.

        The new ones win. Of an immutable signature only the options change.
        """
        merged = {**self.options, **options}
        if self.immutable:
            return msgspec.structs.replace(self, options=merged)
        return msgspec.structs.replace(
            self,
            args=(*args, *self.args),
            kwargs={**self.kwargs, **(kwargs or {})},
            options=merged,
        )

    def set(self, *, immutable: bool | None = None, **options: Any) -> Self:
        """Return a copy with these options merged in."""
        return msgspec.structs.replace(
            self,
            options={**self.options, **options},
            immutable=self.immutable if immutable is None else immutable,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return Celery's JSON form."""
        return {
            **self.extra,
            "task": self.task,
            "args": list(self.args),
            "kwargs": dict(self.kwargs),
            "options": dict(self.options),
            "subtask_type": self.subtask_type,
            "immutable": self.immutable,
        }

    @classmethod
    def from_dict(cls, raw: Any) -> Self:
        """Read Celery's JSON form.

        Raises: DecodeError: a field is missing or of the wrong type; the text names it.
        """
        if isinstance(raw, cls):
            return raw
        if not isinstance(raw, Mapping):
            raise DecodeError(f"a signature must be an object, not {type(raw).__name__}")
        task, args = raw.get("task"), raw.get("args")
        kwargs, options = raw.get("kwargs"), raw.get("options")
        if not isinstance(task, str) or not task:
            raise DecodeError(f"a signature's 'task' must be a name, not {task!r:.80}")
        if args is not None and not isinstance(args, (list, tuple)):
            raise DecodeError(f"'args' of signature {task!r} must be a list, not {args!r:.80}")
        for name, value in (("kwargs", kwargs), ("options", options)):
            if value is not None and not isinstance(value, Mapping):
                raise DecodeError(f"{name!r} of signature {task!r} must be an object")
        return cls(
            task=task,
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            options=dict(options or {}),
            immutable=bool(raw.get("immutable")),
            subtask_type=raw.get("subtask_type"),
            extra={key: value for key, value in raw.items() if key not in _OWN_KEYS},
        )


_OWN_KEYS = frozenset({"task", "args", "kwargs", "options", "immutable", "subtask_type"})
