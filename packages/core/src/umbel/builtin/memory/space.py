"""Which handles share what: one space for each app and memory URL.

The app passes itself (or anything else that can be weakly referenced) as the option ``_scope``.
Handles with the same scope and URL share a space, which is freed with its last handle once the
scope is gone. Without a scope the URL alone is the key, and the space lasts as long as the
process. A forked child begins with empty spaces: its parent's can't be reached from there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from umbel.builtin.memory.message_store import MessageStore
from umbel.builtin.memory.result_store import ResultStore
from umbel.builtin.memory.shared_store import SharedStore
from umbel.errors import ConfigError

#: The option by which an app keeps its spaces apart from those of other apps.
SCOPE = "_scope"


class Space:
    """What is behind one memory URL of one app."""

    __slots__ = ("__weakref__", "messages", "results", "shared")

    def __init__(self) -> None:
        self.messages = MessageStore()
        self.results = ResultStore()
        self.shared = SharedStore()


class _Spaces:
    """All spaces of the process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        # The lock is a new one too: after a fork, the old one may be held for ever.
        self._lock = threading.Lock()
        self._unscoped: dict[str, Space] = {}
        self._scoped: WeakKeyDictionary[Any, dict[str, Space]] = WeakKeyDictionary()

    def open(self, name: str, scope: Any) -> Space:
        with self._lock:
            spaces = self._unscoped if scope is None else self._scoped.setdefault(scope, {})
            space = spaces.get(name)
            if space is None:
                space = spaces[name] = Space()
            return space


_SPACES = _Spaces()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_SPACES.reset)


def open_space(url: str, options: Mapping[str, Any]) -> Space:
    """Return the space that ``memory://`` or ``memory://name`` names, made at its first use.

    Raises: ConfigError: the URL has more than a name, or an option is unknown.
    """
    unknown = sorted(name for name in options if not name.startswith("_"))
    if unknown:
        raise ConfigError(
            f"memory:// has no transport option {unknown[0]!r} (it has none); remove it"
        )
    return _SPACES.open(_name(url), options.get(SCOPE))


def _name(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "memory" or parts.username or parts.password or parts.query:
        # The URL itself isn't shown: what is too much may be a password.
        raise ConfigError("a memory URL is memory:// or memory://name, and nothing else")
    return f"{parts.netloc}{parts.path}".strip("/")
