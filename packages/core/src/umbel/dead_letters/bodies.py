"""What the message of a dead letter holds, as far as it can be decoded safely."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from umbel.compression import decompress
from umbel.errors import ConfigError, DecodeError
from umbel.interfaces.serializer import Serializer
from umbel.messages import Message


class Arguments(msgspec.Struct, frozen=True):
    """A decoded body."""

    args: list[Any]
    kwargs: dict[str, Any]
    #: What comes next: callbacks, errbacks, chain, chord.
    embed: Any


class BodyReader:
    """Reads bodies of the content types that a worker would read, with its bounds.

    Args:
        accepted: Names of serializers (``accept_content``).
        max_bytes: Of a body, decompressed (``task_message_max_bytes``).
        serializer: Returns a serializer by its name.
    """

    def __init__(
        self, accepted: Iterable[str], max_bytes: int, serializer: Callable[[str], Serializer]
    ) -> None:
        self._max_bytes = max_bytes
        found = [serializer(name) for name in accepted]
        self._serializers = {each.content_type: each for each in found}

    def read(self, message: Message) -> Arguments:
        """Return what `message` calls its task with.

        Raises: DecodeError: it can't be decoded, or a worker wouldn't.
        """
        serializer = self.serializer_of(message)
        if len(message.body) > self._max_bytes:
            raise DecodeError(
                f"body of {len(message.body)} bytes is over task_message_max_bytes "
                f"({self._max_bytes})"
            )
        body = serializer.loads(self._plain(message))
        match body:
            case [list() | tuple() as args, dict() as kwargs, embed]:
                return Arguments(list(args), kwargs, embed)
            case _:
                raise DecodeError("body isn't a list of arguments, keyword arguments and embed")

    def serializer_of(self, message: Message) -> Serializer:
        """Return what reads and writes the body of `message`. Raises: DecodeError."""
        serializer = self._serializers.get(message.content_type)
        if serializer is None:
            raise DecodeError(
                f"content type {message.content_type!r:.80} isn't accepted "
                f"(accept_content allows {', '.join(self._serializers)})"
            )
        return serializer

    def _plain(self, message: Message) -> bytes:
        method = message.headers.get("compression")
        if method is None:
            return message.body
        try:
            return decompress(method, message.body, max_bytes=self._max_bytes)
        except (ConfigError, TypeError, AttributeError) as error:
            raise DecodeError(f"body can't be decompressed ({method!r:.80}): {error}") from error
