"""Values as they were given, each with its source, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import msgspec

#: The source of what nobody gave.
DEFAULT_SOURCE = "default"


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A value that some source gives to a setting, not checked yet."""

    value: Any
    #: For people: ``"environment variable UMBEL_TASK_ACKS_LATE"``.
    source: str
    #: The setting's name as it stands there.
    written: str
    #: `value` is text that means what the setting's type says.
    is_text: bool = False


class Problem(msgspec.Struct, frozen=True):
    """Something wrong with a setting. Its text holds no password."""

    name: str
    text: str
    source: str

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.name} {self.text} (from {self.source})"


class Layer(msgspec.Struct, frozen=True):
    """What one source gives: values by the settings' names, and what it couldn't read."""

    given: dict[str, Given] = {}
    problems: tuple[Problem, ...] = ()


class ObjectSource(msgspec.Struct, frozen=True):
    """What `config_from_object` was called with; read when the settings are."""

    source: Any
    namespace: str | None = None
    silent: bool = False
