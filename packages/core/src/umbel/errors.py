"""Every error of umbel, and the three control-flow signals that a task may raise.

    UmbelError
    ├── ConfigError (ValueError)            a setting, URL or start-up option is wrong
    ├── AppLoadError                        ``-A`` names something that can't be imported
    ├── NoCurrentAppError (LookupError)     a shared task is used, and no app is the current one
    ├── PluginError
    │   ├── UnknownPluginError (LookupError)
    │   └── PluginClashError
    ├── CapabilityError                     this broker or backend can't do what was asked
    ├── BrokerError
    │   ├── BrokerUnavailableError (ConnectionError)
    │   ├── QueueFullError
    │   ├── AlreadySentError
    │   ├── DeadLetterError
    │   └── DeliveryLostError
    ├── BackendError
    │   └── BackendUnavailableError (ConnectionError)
    ├── SerializationError (ValueError)
    │   ├── EncodeError
    │   │   └── ResultTooLargeError
    │   ├── DecodeError
    │   └── ContentDisallowedError
    ├── StateError (ValueError)
    ├── ResultTimeoutError (TimeoutError)   ``get(timeout=…)`` ran out
    ├── TaskError
    │   ├── UnknownTaskError (LookupError)
    │   ├── AlreadyRegisteredError (ValueError)
    │   ├── InvalidTaskError (ValueError)
    │   │   └── WrongTypeError (TypeError)  what was given is of another kind than what is wanted
    │   ├── TaskArgumentsError (TypeError)
    │   ├── TaskRevokedError
    │   ├── SoftTimeLimitExceeded (TimeoutError)
    │   ├── TimeLimitExceeded (TimeoutError)
    │   ├── WorkerLostError
    │   ├── MaxRetriesExceededError
    │   ├── ChordError
    │   ├── IncompleteStream
    │   ├── SyncSubtaskError (RuntimeError)
    │   └── RemoteTaskError                 stands for an exception class that isn't allowed here
    └── TaskSignal                          not failures: how a task steers its own outcome
        ├── Retry
        ├── Ignore
        └── Reject

Names are Celery's where Celery has the thing. A message says what happened, with which value,
and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class UmbelError(Exception):
    """Root of all errors that umbel raises."""


class ConfigError(UmbelError, ValueError):
    """A setting, a URL or a start-up option is wrong. Raised at start-up, never in a task."""


class AppLoadError(UmbelError):
    """The application that ``-A`` names can't be imported or holds no app."""


class NoCurrentAppError(UmbelError, LookupError):
    """A shared task was used where no app is the current one, or several could be meant."""


class PluginError(UmbelError):
    """A plugin can't be loaded or used."""


def near_matches(name: str, known: Iterable[str], *, limit: int = 3) -> list[str]:
    """Return up to `limit` names of `known` that `name` may be a misspelling of, best first."""
    from difflib import get_close_matches  # noqa: PLC0415 - only an error path pays for it

    return get_close_matches(name, list(known), n=limit, cutoff=0.6)


class UnknownPluginError(PluginError, LookupError):
    """No installed plugin offers the name or URL scheme that was asked for.

    Args:
        kind: ``"broker"``, ``"backend"``, ``"coordinator"``, ``"serializer"``, ``"pool"`` or
            ``"scheduler"``.
        name: What was asked for.
        known: What the installed plugins offer.
        install: Command that would install it, where umbel knows one.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], install: str | None = None):
        self.kind, self.name, self.known, self.install = kind, name, sorted(known), install
        hint = ""
        if install is not None:
            hint = f"; install it with: {install}"
        elif close := near_matches(name, self.known, limit=1):
            hint = f"; did you mean {close[0]!r}?"
        found = ", ".join(self.known) or "none"
        super().__init__(f"no {kind} named {name!r} is installed{hint} (found: {found})")


class PluginClashError(PluginError):
    """Two plugins offer the same name."""

    def __init__(self, kind: str, name: str, plugins: Sequence[str]):
        self.kind, self.name, self.plugins = kind, name, tuple(plugins)
        super().__init__(
            f"{kind} {name!r} is offered by more than one plugin: {', '.join(plugins)}; "
            f"uninstall all but one of them"
        )


class CapabilityError(UmbelError):
    """A broker, backend or coordinator can't do what was asked of it."""

    def __init__(self, what: str, capability: str):
        self.what, self.capability = what, capability
        super().__init__(f"{what} has no capability {str(capability)!r}, which this call needs")


class BrokerError(UmbelError):
    """The broker refused or failed."""


class BrokerUnavailableError(BrokerError, ConnectionError):
    """The broker can't be reached now; the same call may work later."""


class QueueFullError(BrokerError):
    """The broker has no room for the message."""

    def __init__(self, text: str = "", *, queue: str | None = None):
        #: Which queue is full, where that is known.
        self.queue = queue
        super().__init__(text)

    @classmethod
    def no_room(cls, queue: str, bound: int, adding: int) -> QueueFullError:
        """Return the error of a queue of `bound` that hasn't room for `adding` messages more."""
        if adding > bound:
            return cls(
                f"{adding} messages at once don't fit into queue {queue!r}, whose max_length is "
                f"{bound}, and nothing was sent; send smaller batches",
                queue=queue,
            )
        return cls(
            f"queue {queue!r} is full: its max_length is {bound}, and {adding} more would go "
            f"beyond it, so nothing was sent; try again later, or let the queue block "
            f"(overflow='block')",
            queue=queue,
        )


class AlreadySentError(BrokerError):
    """A task of that id is waiting, running, or was finished a moment ago; it wasn't sent again."""

    def __init__(self, task_ids: Sequence[str]):
        self.task_ids = tuple(task_ids)
        shown = ", ".join(self.task_ids[:5]) + (" …" if len(self.task_ids) > 5 else "")
        were = "task was" if len(self.task_ids) == 1 else f"{len(self.task_ids)} tasks were"
        super().__init__(
            f"{were} sent already and nothing was sent now: {shown}; give another task_id, or "
            "on_conflict='return' to take the result of the first"
        )


class DeadLetterError(BrokerError):
    """There is no such dead letter, or it can't be sent again as it is."""


class DelayedError(BrokerError):
    """There is no such delayed message."""


class DeliveryLostError(BrokerError):
    """A delivery isn't held any more: its lease ran out, and another worker may have it."""

    def __init__(self, receipts: Sequence[str], why: str = "its lease ran out"):
        self.receipts = tuple(receipts)
        shown = ", ".join(self.receipts[:5]) + (" …" if len(self.receipts) > 5 else "")
        super().__init__(f"{len(self.receipts)} deliveries are held no longer ({why}): {shown}")


class BackendError(UmbelError):
    """The result backend refused or failed."""


class BackendUnavailableError(BackendError, ConnectionError):
    """The result backend can't be reached now; the same call may work later."""


class SerializationError(UmbelError, ValueError):
    """A value can't be encoded, or bytes can't be decoded."""


class EncodeError(SerializationError):
    """A value can't be encoded; the text names the path to it."""


class ResultTooLargeError(EncodeError):
    """What a task returned is larger than `result_max_bytes`."""


class DecodeError(SerializationError):
    """Bytes aren't what their content type says."""


class ContentDisallowedError(SerializationError):
    """The content type isn't in ``accept_content``; nothing was decoded."""


class StateError(UmbelError, ValueError):
    """A task can't go from its state to the one asked for."""


class ResultTimeoutError(UmbelError, TimeoutError):
    """The result wasn't there within the time given."""


class TaskError(UmbelError):
    """Something about a task: its name, its arguments or its execution."""


class UnknownTaskError(TaskError, LookupError):
    """No task of that name is registered (Celery: ``NotRegistered``)."""


class AlreadyRegisteredError(TaskError, ValueError):
    """Another task has that name already."""


class InvalidTaskError(TaskError, ValueError):
    """A task's definition or options are wrong, or its message is malformed."""


class WrongTypeError(InvalidTaskError, TypeError):
    """Something of another kind was given than is wanted: no signature, no result, no list."""


class TaskArgumentsError(TaskError, TypeError):
    """The arguments don't fit the task's signature."""


class TaskRevokedError(TaskError):
    """The task was revoked, was terminated, or expired before it began."""


class SoftTimeLimitExceeded(TaskError, TimeoutError):
    """Raised inside a task at its soft time limit, so that it can clean up."""


class TimeLimitExceeded(TaskError, TimeoutError):
    """The task ran past its hard time limit and was ended from outside."""


class WorkerLostError(TaskError):
    """The process that ran the task died, too many times."""


class MaxRetriesExceededError(TaskError):
    """The task asked for another retry after its last one."""


class ChordError(TaskError):
    """A member of a chord's header failed, so its body won't run."""


class IncompleteStream(TaskError):
    """A walk over results came to a task that isn't over, so what it will send isn't known."""


class SyncSubtaskError(TaskError, RuntimeError):
    """``result.get()`` was called inside a task, where it holds the slot while it waits."""


class RemoteTaskError(TaskError):
    """A task failed with an exception whose class isn't allowed to be rebuilt here.

    Attributes:
        exc_type: Name of the class in the worker.
        exc_module: Module of the class in the worker.
        exc_args: The exception's arguments, as far as they could be serialized.
    """

    def __init__(self, exc_type: str, exc_module: str | None, exc_args: Sequence[Any] = ()):
        self.exc_type, self.exc_module, self.exc_args = exc_type, exc_module, tuple(exc_args)
        shown = ", ".join(repr(arg) for arg in self.exc_args)
        super().__init__(f"{exc_type}({shown})")


class TaskSignal(UmbelError):
    """Raised by a task to steer its own outcome; not a failure."""


class Retry(TaskSignal):
    """Run the task again later. Raised by ``self.retry()``.

    Args:
        message: Text for people.
        exc: The error that is the cause, or None.
        when: Seconds from now, or the aware datetime of the next run.
    """

    def __init__(self, message: str | None = None, exc: BaseException | None = None, when: Any = 0):
        self.message, self.exc, self.when = message, exc, when
        #: What the next run gets in place of what this one had: args, kwargs, and options of
        #: ``apply_async`` by name.
        self.override: dict[str, Any] = {}
        super().__init__(message or "retry")


class Ignore(TaskSignal):
    """Acknowledge the message and store nothing.

    What would have come after the task never will: the rest of its chain, and the body of its
    chord, fail.
    """


class Replace(Ignore):
    """Have a signature run in the place of the task. Raised by ``self.replace()``.

    Args:
        signature: What runs; it carries all that the task was to be followed by.
    """

    def __init__(self, signature: Any):
        self.signature = signature
        super().__init__(f"replaced by {signature!r:.200}")


class Resent(Ignore):
    """The task runs again, and its next run has been sent. See ``self.retry(throw=False)``."""


class Reject(TaskSignal):
    """Refuse the message: give it back (``requeue=True``) or put it with the dead letters."""

    def __init__(self, reason: Any = None, requeue: bool = False):
        self.reason, self.requeue = reason, requeue
        super().__init__(reason, requeue)


#: Celery's names for ours.
NotRegistered = UnknownTaskError
AlreadyRegistered = AlreadyRegisteredError
ImproperlyConfigured = ConfigError
ContentDisallowed = ContentDisallowedError
