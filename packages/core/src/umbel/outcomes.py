"""What came of running a task: one frozen value an outcome, and the record a backend keeps.

Values are encoded when the outcome is made, so that an outcome can cross processes as bytes
(the worker's journal) and so that a value that can't be encoded is the task's failure, told
before anything was published.
"""

from __future__ import annotations

from typing import Any

import msgspec

from umbel.messages import DeathKind, Message


class ErrorInfo(msgspec.Struct, frozen=True):
    """An exception as data, in the fields of Celery's JSON form."""

    exc_type: str
    exc_module: str | None
    #: The exception's ``args``; what JSON can't hold stands as its repr.
    exc_message: list[Any]
    traceback: str | None = None
    #: Short text for logs: repr of the exception.
    summary: str = ""


class Success(msgspec.Struct, frozen=True, tag="success"):
    """The task returned; `value` is its return value in the result serializer's bytes."""

    value: bytes
    #: Seconds.
    runtime_s: float = 0.0
    #: Result tuples of the tasks that it sent (its ``children``).
    children: list[Any] = []
    #: What it added to its chord, as the serializer of tasks writes it.
    added: bytes | None = None


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The task raised, ran out of time, or lost its worker."""

    error: ErrorInfo
    runtime_s: float = 0.0
    #: The task lists the exception in ``throws``: logged without traceback, at INFO.
    expected: bool = False
    #: Goes to the dead letters for this reason, unless `death` is one that the task's policy
    #: leaves out.
    dead_letter: str | None = None
    children: list[Any] = []
    #: What kind of a dead letter it is, where `dead_letter` is given.
    death: DeathKind = DeathKind.UNDELIVERABLE
    #: What else the dead letter shall tell, as JSON: ``attempts`` and the like.
    details: dict[str, Any] = {}


class Retry(msgspec.Struct, frozen=True, tag="retry"):
    """The task is to run again; `message` is the one to send in the place of this one."""

    message: Message
    error: ErrorInfo
    #: Text for people: why.
    reason: str = ""
    runtime_s: float = 0.0
    children: list[Any] = []


class Rejected(msgspec.Struct, frozen=True, tag="rejected"):
    """The message was refused: given back (`requeue`) or put with the dead letters."""

    reason: str
    requeue: bool = False
    #: Seconds before a requeued message may be received again.
    delay_s: float = 0.0
    #: Stored as the task's result where there is a task id; None stores nothing.
    error: ErrorInfo | None = None
    #: What kind of a dead letter it is, unless it is given back.
    death: DeathKind = DeathKind.REJECTED


class Revoked(msgspec.Struct, frozen=True, tag="revoked"):
    """The task won't run: ``"revoked"``, ``"expired"`` or ``"terminated"``."""

    reason: str


class Ignored(msgspec.Struct, frozen=True, tag="ignored"):
    """The task raised `Ignore`, or its result stands already: acknowledge, store nothing."""

    reason: str = "ignored"
    #: Another message sees to all that would come after the task.
    goes_on: bool = False
    #: Why what would come after the task fails; None: since it was ignored.
    error: ErrorInfo | None = None


class Replaced(msgspec.Struct, frozen=True, tag="replaced"):
    """A signature runs in the place of the task: acknowledge, store nothing.

    `signature` is what runs, in its dict form, as the serializer of tasks writes it.
    """

    signature: bytes
    #: For people: what it calls.
    name: str = ""
    runtime_s: float = 0.0
    #: As of a success.
    added: bytes | None = None


Outcome = Success | Failure | Retry | Rejected | Revoked | Ignored | Replaced


class StoredResult(msgspec.Struct, frozen=True, kw_only=True):
    """A result as a backend keeps it: the fields it may look at, and opaque bytes.

    `body` is Celery's result document, encoded by the result serializer (umbel.results.codec).
    """

    task_id: str
    state: str
    body: bytes
    #: Fencing token of the delivery that made it (umbel.messages.Delivery.token).
    token: int = 1
    #: `Message.result_order` of its message: how many times the task had been tried before, and more.
    retries: int = 0
    #: Seconds that it is kept; None: for ever.
    ttl_s: float | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """Order of writing: a result of a lower rank never replaces one of a higher."""
        return (self.retries, self.token)


class ChordPart(msgspec.Struct, frozen=True, kw_only=True):
    """What one finished task of a chord's header, or of a group that is counted, adds to it."""

    group_id: str
    #: Where its result stands among the others; None: behind those that have an index.
    index: int | None
    task_id: str
    #: SUCCESS or FAILURE (or REVOKED).
    state: str
    #: The value, or the error in Celery's JSON form: as ``result`` in the result document, JSON.
    #: None: nobody waits for all of them together; counted for the progress of its group alone.
    result: bytes | None
    #: Seconds that the chord is kept after its last part; None: for ever.
    ttl_s: float | None = None
    #: It failed, and its chord shall fail at once, without the parts that are missing.
    aborts: bool = False


class ChordProgress(msgspec.Struct, frozen=True):
    """How far a chord or a group has come."""

    #: How many parts it has, those that were added since it was opened among them.
    size: int
    #: How many parts have come to their end, those that failed among them.
    done: int
    #: How many of these failed or were revoked.
    failed: int
