"""The contract of a serializer: values to bytes and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar


class Serializer(ABC):
    """Turns message bodies and results into bytes. Stateless; used from many threads."""

    #: Name in settings, such as ``"json"``.
    name: ClassVar[str]
    #: MIME type in messages, such as ``"application/json"``.
    content_type: ClassVar[str]
    #: ``"utf-8"`` for text, ``"binary"`` otherwise.
    content_encoding: ClassVar[str] = "utf-8"
    #: Whether decoding untrusted bytes is safe. What is not must be named in accept_content.
    safe: ClassVar[bool] = True
    #: Levels of nesting that are written and read; an app sets it to ``task_message_max_depth``.
    max_depth: int = 200

    @abstractmethod
    def dumps(self, value: Any) -> bytes:
        """Encode `value`.

        Raises: EncodeError: it can't be; the text names the path to the part that can't.
        """

    @abstractmethod
    def loads(self, data: bytes) -> Any:
        """Decode `data`.

        Raises: DecodeError: malformed, or nested too deeply. Never another exception.
        """
