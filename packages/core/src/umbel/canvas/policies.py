"""What a failed member of a chord means for its body."""

from __future__ import annotations

from typing import Any, Final

from umbel.errors import InvalidTaskError, near_matches
from umbel.signatures import Signature

#: Option of a chord, and key in the JSON form of its body, where Celery passes it over.
ON_FAILURE: Final = "umbel_on_failure"
ABORT: Final = "abort"
COLLECT: Final = "collect"
IGNORE: Final = "ignore"
_POLICIES: Final = (ABORT, COLLECT, IGNORE)


def checked_policy(given: str) -> str:
    """Return `given`. Raises: InvalidTaskError: it is no policy."""
    if given not in _POLICIES:
        close = near_matches(str(given), _POLICIES, limit=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        words = ", ".join(map(repr, _POLICIES))
        raise InvalidTaskError(f"on_failure must be one of {words}, not {given!r:.80}{hint}")
    return given


def policy_of(body: Signature[Any]) -> str:
    """Return what a failed member of its chord means to `body`."""
    found = body.extra.get(ON_FAILURE)
    return found if found in _POLICIES else ABORT


def with_policy(body: Signature[Any], policy: str | None) -> Signature[Any]:
    """Return a copy of `body` that tells of `policy` on its way."""
    if policy is None:
        return body
    return body.with_extra(**{ON_FAILURE: policy})
