"""Error replies of a server, and what they mean for who called."""

from __future__ import annotations

from typing import Any, NamedTuple

from umbel.errors import UmbelError

#: A later call may work: the server starts, fails over, is full, can't save, runs a long script.
_PASSING = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "OOM",
        "READONLY",
        "TRYAGAIN",
        "UNBLOCKED",
    }
)
#: What a server says at its door that has all the clients it may have.
_CROWDED = "ERR max number of clients"
_DENIED = frozenset({"NOAUTH", "NOPERM", "WRONGPASS"})
#: Replies after which the connection leads to the wrong server.
_MISPLACED = frozenset({"READONLY", "MASTERDOWN", "NOREPLICAS"})


class ReplyError(Exception):
    """What a server answered in the place of a value; the first word says what it is about."""

    @property
    def code(self) -> str:
        """The first word: ``"OOM"``, ``"MOVED"``, ``"ERR"`` …"""
        return str(self).partition(" ")[0]

    @property
    def is_passing(self) -> bool:
        """Tell whether the same call may work later."""
        return self._code_in(_PASSING) or str(self).startswith(_CROWDED)

    @property
    def is_denied(self) -> bool:
        """Tell whether the user or password is wrong, or may not do this."""
        return self.code in _DENIED

    @property
    def is_misplaced(self) -> bool:
        """Tell whether another server is the master now."""
        return self._code_in(_MISPLACED)

    def _code_in(self, codes: frozenset[str]) -> bool:
        # A script's own errors begin with ERR, and name the code of the command that failed.
        return self.code in codes or any(f"-{code} " in str(self) for code in codes)


def raised(replies: list[Any]) -> list[Any]:
    """Return `replies`. Raises: ReplyError: one of them is a refusal."""
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise reply
    return replies


class ConnectionLostError(Exception):
    """No connection, or none any more: unknown whether the server did what it was sent."""


class Failures(NamedTuple):
    """The pair of errors that a kind of handle raises."""

    #: Refused: the same call won't work later.
    refused: type[UmbelError]
    #: Can't be reached or used now.
    unavailable: type[UmbelError]
    #: For messages: which server.
    server: str = "Redis"

    def told(self, exc: Exception) -> UmbelError:
        """Return what to raise in the place of `exc`."""
        if isinstance(exc, ReplyError) and not exc.is_passing:
            if exc.is_denied:
                return self.refused(f"{self.server} doesn't let this user in: {exc}")
            if exc.code == "MOVED":
                return self.refused(
                    f"{self.server} is a node of a Cluster; write 'redis+cluster://' in its URL"
                )
            return self.refused(f"{self.server} refuses: {exc}")
        if isinstance(exc, ReplyError):
            return self.unavailable(f"{self.server} can't do this now: {exc}")
        return self.unavailable(f"{self.server} can't be reached: {exc}")


#: What `Failures.told` turns into an error of umbel's.
FAILED = (ReplyError, ConnectionLostError)
