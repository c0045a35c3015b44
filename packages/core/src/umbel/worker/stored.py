"""A stored result made back into the outcome that it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from umbel.errors import SerializationError
from umbel.messages import DeathKind
from umbel.outcomes import ErrorInfo, Failure, Outcome, Revoked, StoredResult, Success
from umbel.results.codec import decode_result
from umbel.states import State

if TYPE_CHECKING:
    from umbel.interfaces.serializer import Serializer


def outcome_of(stored: StoredResult, serializer: Serializer) -> Outcome | None:
    """Return the outcome of a final result; None where it can't be told from what is stored."""
    try:
        document = decode_result(stored.body, serializer)
        if stored.state == State.SUCCESS:
            return Success(serializer.dumps(document.result), 0.0, list(document.children or ()))
    except SerializationError:
        return None
    if stored.state == State.REVOKED:
        return Revoked("revoked")
    if stored.state == State.FAILURE and document.error is not None:
        return _failure(document.error)
    return None


def _failure(error: ErrorInfo) -> Failure:
    """Return the failure again; that of a lost process is poison, whose burial was cut off."""
    if error.exc_type != "WorkerLostError":
        return Failure(error, 0.0, expected=True)
    reason = str(error.exc_message[0]) if error.exc_message else "worker lost"
    return Failure(error, 0.0, expected=True, dead_letter=reason, death=DeathKind.POISON)
