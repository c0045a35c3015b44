"""What a coordinator's values, leases, rates and channels are called in Redis."""

from __future__ import annotations

from typing import Final
from zlib import crc32

#: Leases are dealt out to so many counters of fencing tokens. A counter is never dropped, so one
#: a lease would pile up; and one for all would send every lease of a Cluster to one node.
_COUNTERS: Final = 256
#: Any text is a key, also what is no valid Unicode.
_ERRORS: Final = "surrogatepass"


class Names:
    """Names in Redis, as bytes. All keys of one call are in one slot of a Cluster."""

    def __init__(self, prefix: str, db: int) -> None:
        root = f"{prefix}umbel:coordinator:"
        self._root = _bytes(root)
        self._values = _bytes(f"{root}value:")
        self._rates = _bytes(f"{root}rate:")
        # Redis has one set of channels for all its databases.
        self._channels = _bytes(f"{root}{db}:channel:")

    def value(self, key: str) -> bytes:
        """Return where the value of `key` is."""
        return self._values + _bytes(key)

    def key_of(self, value: bytes) -> str:
        """Return whose value is there: the inverse of `value`."""
        return value[len(self._values) :].decode(errors=_ERRORS)

    def pattern(self, prefix: str) -> bytes:
        """Return the glob for all values whose keys begin with `prefix`."""
        literal = self.value(prefix)
        for special in (b"\\", b"*", b"?", b"["):
            literal = literal.replace(special, b"\\" + special)
        return literal + b"*"

    def rate(self, key: str) -> bytes:
        """Return where the state of the rate `key` is."""
        return self._rates + _bytes(key)

    def lease(self, name: str) -> tuple[bytes, bytes]:
        """Return where the lease `name` is, and the counter that gives it tokens."""
        text = _bytes(name)
        home = b"%s{%02x}:" % (self._root, crc32(text) % _COUNTERS)
        return b"%slease:%s" % (home, text), b"%stokens" % home

    def channel(self, name: str) -> bytes:
        """Return the channel of Redis for `name`."""
        return self._channels + _bytes(name)

    @property
    def exchange(self) -> bytes:
        """Return a key: on its node of a Cluster all publish and all listen.

        Other nodes would be told too, but only in a while: so they'd hear what was published before
        they listened, and not in order.
        """
        return self._channels

    @property
    def deadlines(self) -> bytes:
        """Return where virtual time keeps what expires when."""
        return self._root + b"deadlines"


def _bytes(text: str) -> bytes:
    return text.encode(errors=_ERRORS)
