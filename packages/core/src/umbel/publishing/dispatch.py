"""Messages handed to the broker: again where it didn't answer, once where that is asked for, and
later where a queue is full.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from umbel.errors import (
    AlreadySentError,
    BrokerUnavailableError,
    CapabilityError,
    InvalidTaskError,
    QueueFullError,
)
from umbel.interfaces.broker import Capability
from umbel.messages import RESENT, SENT_AT, Message, OnConflict

if TYPE_CHECKING:
    from umbel.clock import Clock
    from umbel.interfaces.broker import Broker
    from umbel.retries import RetryPolicy
    from umbel.routing import Queue

logger = logging.getLogger("umbel")

#: What a try to hand over returns: ids of what was known, or nothing.
Try = Callable[[], Sequence[str] | None]

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5
#: Of a queue that blocks, a batch takes no more than this part at once: it comes in by and by.
_SHARE = 10


class Dispatcher:
    """Hands messages over for one publisher.

    Args:
        queues: The declared queues.
        deadline_s: Seconds that a call may wait for room; None: no limit.
        clock: Where to read the time.
        sleep: Pauses between tries.
    """

    def __init__(
        self,
        *,
        queues: Mapping[str, Queue],
        deadline_s: float | None,
        clock: Clock,
        sleep: Callable[[float], None],
    ) -> None:
        self._bounds = {
            queue.name: queue.max_length
            for queue in queues.values()
            if queue.max_length is not None
        }
        self._blocking = frozenset(
            name for name in self._bounds if queues[name].overflow == "block"
        )
        self._deadline_s, self._clock, self._sleep = deadline_s, clock, sleep

    def dispatch(
        self,
        broker: Broker,
        messages: Sequence[Message],
        options: Mapping[str, Any],
        policy: RetryPolicy | None,
    ) -> Collection[str]:
        """Return once the broker has `messages`: the ids of what it had before.

        Args:
            options: Of the calls, which are alike in how they are to be sent.
            policy: How often to try again; None: never.
        Raises: as `umbel.publishing.publisher.Publisher.publish`.
        """
        started_at = self._clock.monotonic()
        once = _on_conflict(options, broker) if options else None
        if options.get("task_id") and not options.get("retries"):
            now = int(self._clock.time())
            for message in messages:
                message.headers[SENT_AT] = now
        first = self._with_room(_try(broker, messages, options, once), broker, messages)
        try:
            known = first()
        except BrokerUnavailableError as exc:
            again = first
            if once is None and Capability.UNIQUE in broker.capabilities:
                again = self._with_room(
                    _try(broker, messages, options, OnConflict.RETURN), broker, messages
                )
            if once is None and not options.get("task_id"):
                # An id that nobody else has: where it has a result, the first try came through.
                for message in messages:
                    message.headers[RESENT] = True
            known = self._again(again, messages, policy, exc, started_at)
        return known or () if once is OnConflict.RETURN else ()

    def shares(self, queues: Sequence[str]) -> Iterable[slice]:
        """Cut a batch of messages for `queues` into what goes to the broker together."""
        if self._blocking.isdisjoint(queues):
            yield slice(0, len(queues))
            return
        start, counts = 0, dict.fromkeys(self._blocking, 0)
        for index, queue in enumerate(queues):
            if queue not in counts:
                continue
            if counts[queue] >= max(1, self._bounds[queue] // _SHARE):
                yield slice(start, index)
                start, counts = index, dict.fromkeys(self._blocking, 0)
            counts[queue] += 1
        yield slice(start, len(queues))

    def _again(
        self,
        attempt: Try,
        messages: Sequence[Message],
        policy: RetryPolicy | None,
        error: BrokerUnavailableError,
        started_at: float,
    ) -> Sequence[str] | None:
        """Go on trying as `policy` says; raise the last error with what wasn't sent."""
        attempts = 1
        pauses = policy.sleeps(self._clock, started_at=started_at) if policy is not None else ()
        for pause in pauses:
            if policy is not None and not policy.applies_to(error, (BrokerUnavailableError,)):
                break
            self._sleep(pause)
            attempts += 1
            try:
                return attempt()
            except BrokerUnavailableError as exc:
                error = exc
            except AlreadySentError as exc:
                exc.add_note("an earlier try of this call, whose answer was lost, may have sent it")
                raise
        took = self._clock.monotonic() - started_at
        text = (
            f"{_what(messages)} not sent after {attempts} attempt{'' if attempts == 1 else 's'} "
            f"in {took:.1f} s: {error}"
        )
        logger.error("%s", text)
        raise BrokerUnavailableError(text) from error

    # -- queues with a bound --------------------------------------------------------------------

    def _with_room(self, attempt: Try, broker: Broker, messages: Sequence[Message]) -> Try:
        """Return what tries as `attempt` does, and heeds the bounds of queues."""
        if not self._bounds:
            return attempt
        queues = [message.queue for message in messages if message.queue in self._bounds]
        if not queues:
            return attempt
        return lambda: self._wait_for_room(attempt, broker, queues)

    def _wait_for_room(
        self, attempt: Try, broker: Broker, queues: Sequence[str]
    ) -> Sequence[str] | None:
        started_at, slept_s, pause_s = self._clock.monotonic(), 0.0, _FIRST_PAUSE_S
        while True:
            try:
                if Capability.BOUNDED not in broker.capabilities:
                    self._look_for_room(broker, queues)
                return attempt()
            except QueueFullError as exc:
                if not self._blocks(exc, queues):
                    raise
                # By what was slept, too: a clock that nobody moves hangs nobody.
                passed_s = max(self._clock.monotonic() - started_at, slept_s)
                if self._deadline_s is not None and passed_s >= self._deadline_s:
                    raise QueueFullError(
                        f"{exc} (waited {passed_s:.1f} s for room)", queue=exc.queue
                    ) from exc
            if self._deadline_s is not None:
                pause_s = min(pause_s, self._deadline_s - passed_s)
            self._sleep(pause_s)
            slept_s += pause_s
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)

    def _blocks(self, error: QueueFullError, queues: Sequence[str]) -> bool:
        """Tell whether to wait: not for a batch that won't ever fit."""
        full = [error.queue] if error.queue is not None else queues
        return self._blocking.issuperset(full) and all(
            queues.count(queue) <= self._bounds[queue] for queue in full
        )

    def _look_for_room(self, broker: Broker, queues: Sequence[str]) -> None:
        """Keep to the bounds for a broker that doesn't: nearly, since others send meanwhile."""
        for queue in dict.fromkeys(queues):
            stats, adding, bound = broker.stats(queue), queues.count(queue), self._bounds[queue]
            if stats.ready + stats.delayed + adding > bound:
                raise QueueFullError(
                    f"queue {queue!r} is full: {stats.ready + stats.delayed} messages wait in it, "
                    f"its max_length is {bound}, and {adding} more were to be sent; try again later",
                    queue=queue,
                )


def _try(
    broker: Broker,
    messages: Sequence[Message],
    options: Mapping[str, Any],
    once: OnConflict | None,
) -> Try:
    if options.get("retries"):
        # A task's own next run, which a run that is repeated sends again. No bound holds it up.
        def settle() -> None:
            broker.settle((), messages)

        return settle
    if once is not None:
        return lambda: broker.send_once(messages, on_conflict=once)
    return lambda: broker.send(messages)


def _on_conflict(options: Mapping[str, Any], broker: Broker) -> OnConflict | None:
    """Return what becomes of a call whose id is known; None: nobody asks.

    Raises:
        InvalidTaskError: `on_conflict` is none of its words.
        CapabilityError: it is given, and the broker can't send once.
    """
    given, is_unique = options.get("on_conflict"), Capability.UNIQUE in broker.capabilities
    if given is None:
        return OnConflict.RAISE if is_unique and options.get("task_id") else None
    try:
        wanted = OnConflict(given)
    except ValueError:
        words = ", ".join(repr(each.value) for each in OnConflict)
        text = f"on_conflict must be one of {words}, not {given!r:.80}"
        raise InvalidTaskError(text) from None
    if not is_unique:
        raise CapabilityError(type(broker).__name__, Capability.UNIQUE)
    return wanted


def _what(messages: Sequence[Message]) -> str:
    first = messages[0]
    if len(messages) == 1:
        return f"task {first.task!r} [{first.id}] was"
    return f"{len(messages)} tasks, the first {first.task!r} [{first.id}], were"
