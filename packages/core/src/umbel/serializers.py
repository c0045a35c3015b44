"""The serializers of one app: copies of what plugins offer, by name and by content type."""

from __future__ import annotations

import threading
from copy import deepcopy
from typing import TYPE_CHECKING, cast

from umbel.errors import UnknownPluginError
from umbel.plugins import Kind, PluginManager

if TYPE_CHECKING:
    from umbel.interfaces.serializer import Serializer


class Serializers:
    """Looks serializers up. What is registered with one of them no other app sees."""

    def __init__(self, plugins: PluginManager) -> None:
        self._plugins = plugins
        self._known: dict[str, Serializer] = {}
        self._lock = threading.Lock()
        self._max_depth: int | None = None

    def bound(self, max_depth: int) -> None:
        """Let all of them write and read no more levels of nesting than `max_depth`."""
        with self._lock:
            self._max_depth = max_depth
            for serializer in self._known.values():
                serializer.max_depth = max_depth

    def get(self, name_or_content_type: str) -> Serializer:
        """Return the serializer. Raises: UnknownPluginError: nobody offers it."""
        found = self._known.get(name_or_content_type)
        if found is None:
            offered = self._offered(name_or_content_type)
            with self._lock:
                found = self._known.get(offered.name)
                if found is None:
                    found = self._known[offered.name] = deepcopy(offered)
                    if self._max_depth is not None:
                        found.max_depth = self._max_depth
                self._known[found.content_type] = found
        return found

    def _offered(self, wanted: str) -> Serializer:
        if "/" not in wanted:
            return cast("Serializer", self._plugins.offer(Kind.SERIALIZER, wanted))
        offers = self._plugins.all(Kind.SERIALIZER).values()
        for offered in offers:
            if offered.content_type == wanted:
                return cast("Serializer", offered)
        raise UnknownPluginError(Kind.SERIALIZER, wanted, [each.content_type for each in offers])
