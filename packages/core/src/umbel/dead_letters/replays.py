"""Dead letter → the message that is sent in its place. Pure but for the encoding.

A replay is the same task: same id, headers and properties, among them whose child it is. Its
retries are counted from 0 again, and ``umbel_attempts_before`` says how many attempts came
before, so that its result takes the place of the old one. What would hold it back or drop it at
once (eta, expires) is taken away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from umbel.dead_letters.bodies import Arguments, BodyReader
from umbel.errors import DeadLetterError, DecodeError
from umbel.interfaces.serializer import Serializer
from umbel.messages import ATTEMPTS_BEFORE, DeadLetter, Malformed, Message
from umbel.publishing.short_repr import arguments_repr, short_repr

#: Header: how many times the task was replayed.
REPLAYS = "umbel_replays"


class Edit(msgspec.Struct, frozen=True):
    """What a replay has in the place of what the letter has; None: as it was."""

    task: str | None = None
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is changed."""
        return self.task is None and self.args is None and self.kwargs is None


def replayed(letter: DeadLetter) -> Message:
    """Return the message that replays `letter`.

    Raises: DeadLetterError: it is malformed, so there is nothing to send.
    """
    message = letter.message
    if isinstance(message, Malformed):
        raise DeadLetterError(
            f"dead letter {letter.receipt!r} of queue {letter.queue!r} can't be replayed as it is, "
            f"since it can't be read ({message.reason}); say what to send in its place: task, args "
            "and kwargs"
        )
    replays = message.headers.get(REPLAYS)
    headers = {
        **message.headers,
        "retries": 0,
        "eta": None,
        "expires": None,
        ATTEMPTS_BEFORE: message.attempt + 1,
        REPLAYS: replays + 1 if isinstance(replays, int) and 0 <= replays < 2**31 else 1,
    }
    return msgspec.structs.replace(message, headers=headers, due_at=None, expires_at=None)


def edited(message: Message, edit: Edit, reader: BodyReader, fallback: Serializer) -> Message:
    """Return `message` with other arguments, or for another task.

    Args:
        message: What `replayed` returned.
        edit: What changes.
        reader: Reads the body that is there.
        fallback: Writes the new one, where the old one can't be read.
    Raises:
        DeadLetterError: the old body can't be read, and `edit` replaces a part of it only.
        EncodeError: an argument can't be encoded.
    """
    headers = {**message.headers, "id": message.id}
    task = message.task
    if edit.task is not None:
        task = headers["task"] = edit.task
    if edit.args is None and edit.kwargs is None:
        return msgspec.structs.replace(message, task=task, headers=headers)
    try:
        old, serializer = reader.read(message), reader.serializer_of(message)
    except DecodeError as error:
        if edit.args is None or edit.kwargs is None:
            raise DeadLetterError(
                f"the arguments of task {message.id!r} can't be read ({error}); give both args "
                "and kwargs to send it without what was in it"
            ) from error
        old, serializer = Arguments([], {}, None), fallback
    args = list(old.args if edit.args is None else edit.args)
    kwargs = dict(old.kwargs if edit.kwargs is None else edit.kwargs)
    headers.pop("compression", None)
    headers["argsrepr"], headers["kwargsrepr"] = arguments_repr(args), short_repr(kwargs)
    embed = old.embed or {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return msgspec.structs.replace(
        message,
        task=task,
        headers=headers,
        body=serializer.dumps([args, kwargs, embed]),
        content_type=serializer.content_type,
        content_encoding=serializer.content_encoding,
    )
