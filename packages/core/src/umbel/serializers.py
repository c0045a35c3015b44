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

    def get(self, name_or_content_type: str) -> Serializer:
        """Return the serializer. Raises: UnknownPluginError: nobody offers it."""
        found = self._known.get(name_or_content_type)
        if found is None:
            offered = self._offered(name_or_content_type)
            with self._lock:
                found = self._known.get(offered.name)
                if found is None:
                    found = self._known[offered.name] = deepcopy(offered)
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
