"""The states of a task and which may follow which.

A backend stores the word as it stands, so the words are Celery's. Tasks may store states of
their own besides (``update_state(state="PROGRESS")``): those count as unready.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from umbel.errors import StateError


class State(StrEnum):
    """What is known of a task."""

    PENDING = "PENDING"
    RECEIVED = "RECEIVED"
    STARTED = "STARTED"
    RETRY = "RETRY"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"
    REJECTED = "REJECTED"
    IGNORED = "IGNORED"


PENDING, RECEIVED, STARTED, RETRY = State.PENDING, State.RECEIVED, State.STARTED, State.RETRY
SUCCESS, FAILURE, REVOKED = State.SUCCESS, State.FAILURE, State.REVOKED
REJECTED, IGNORED = State.REJECTED, State.IGNORED

_RUN_ENDS = frozenset({SUCCESS, FAILURE, RETRY, REVOKED, REJECTED, IGNORED})

TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        PENDING: _RUN_ENDS | {RECEIVED, STARTED},
        RECEIVED: _RUN_ENDS | {STARTED},
        STARTED: _RUN_ENDS | {STARTED},  # again: delivered once more after a crash
        RETRY: _RUN_ENDS | {RECEIVED, STARTED},
        # Final. A redelivery that finds one of these is settled again, not run again.
        SUCCESS: frozenset(),
        FAILURE: frozenset(),
        REVOKED: frozenset(),
        REJECTED: frozenset(),
        IGNORED: frozenset(),
    }
)

#: Sets under Celery's names.
READY_STATES: frozenset[str] = frozenset({SUCCESS, FAILURE, REVOKED})
UNREADY_STATES: frozenset[str] = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
EXCEPTION_STATES: frozenset[str] = frozenset({RETRY, FAILURE, REVOKED})
PROPAGATE_STATES: frozenset[str] = frozenset({FAILURE, REVOKED})
ALL_STATES: frozenset[str] = frozenset(State)


def is_final(state: str) -> bool:
    """Tell whether nothing can follow `state`. A state of a user's own is never final."""
    return state in READY_STATES or state in (REJECTED, IGNORED)


def order_in_rank(state: str) -> int:
    """Return which result of one run stands: of two, that of the lower order gives way.

    That a task started is stored a moment after it did, when it may have told more already.
    """
    if is_final(state):
        return 1
    return -1 if state in (PENDING, RECEIVED, STARTED) else 0


def may_follow(current: str, new: str) -> bool:
    """Tell whether a task in `current` may become `new`; users' own states count as STARTED."""
    try:
        before = State(current)
    except ValueError:
        before = STARTED
    try:
        after = State(new)
    except ValueError:
        after = STARTED
    return after in TRANSITIONS[before]


def advance(current: State, new: State) -> State:
    """Return `new`, or raise StateError if it may not follow `current`."""
    if new not in TRANSITIONS[current]:
        raise StateError(f"a task that is {current} cannot become {new}")
    return new
