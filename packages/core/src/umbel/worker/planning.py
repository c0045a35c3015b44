"""Outcome → plan: what is to be stored, sent, given back or buried. Pure but for the encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from umbel.messages import Burial, Delivery, Malformed, Message
from umbel.outcomes import (
    ErrorInfo,
    Failure,
    Ignored,
    Outcome,
    Rejected,
    Retry,
    Revoked,
    StoredResult,
    Success,
)
from umbel.results.codec import encode_result
from umbel.states import State
from umbel.worker.burials import Burials
from umbel.worker.decode import header_id
from umbel.worker.errbacks import shown
from umbel.worker.follow_ups import follow_ups, revoked_error
from umbel.worker.jobs import Job, Settlement
from umbel.worker.joinings import Beyond, Joiner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from umbel.canvas.freezing import ResultTuple
    from umbel.interfaces.serializer import Serializer
    from umbel.worker.host import Host


class Plan(msgspec.Struct, frozen=True):
    """What settling one delivery comes to."""

    delivery: Delivery
    result: StoredResult | None = None
    follow_ups: list[Message] = []
    #: What it means to chords, and to the rest of a chain; None: nothing.
    beyond: Beyond | None = None
    #: Give it back, after so many seconds; None: it is done with.
    give_back_s: float | None = None
    #: Put it with the dead letters so.
    bury: Burial | None = None
    #: Acknowledged before it ran.
    acked: bool | None = False


class Planner:
    """Makes plans with the settings of one worker process."""

    def __init__(self, host: Host, hostname: str):
        conf = host.conf
        self._host = host
        self._hostname = hostname
        self._serializer: Serializer = host.serializer(conf.result_serializer)
        self._extended: bool = conf.result_extended
        self._expires: float | None = conf.result_expires
        self._store_errors: bool = conf.task_store_errors_even_if_ignored
        self._joiner = Joiner(host)
        self._burials = Burials(conf.task_dead_letter, hostname)

    def plan(self, settlement: Settlement) -> Plan:
        """Return what `settlement` comes to."""
        delivery, outcome, job = settlement.delivery, settlement.outcome, settlement.job
        acked = settlement.acked
        if isinstance(outcome, Rejected) and outcome.requeue:
            return Plan(delivery, give_back_s=outcome.delay_s, acked=acked)
        bury = self.burial(settlement)
        if job is None:
            beyond = self._joiner.beyond_unreadable(delivery.message, outcome, settlement.done_at)
            result = self.result(settlement)
            return Plan(delivery, result=result, beyond=beyond, bury=bury, acked=acked)
        following = follow_ups(job, outcome, self._host)
        return Plan(
            delivery,
            result=self.result(settlement, following.results),
            follow_ups=following.messages,
            beyond=self._joiner.beyond(job, outcome, following, settlement.done_at),
            bury=bury,
            acked=acked,
        )

    def burial(self, settlement: Settlement) -> Burial | None:
        """Return how the message is buried; None: it isn't."""
        return self._burials.of(settlement)

    def result(
        self, settlement: Settlement, following: Sequence[ResultTuple] = ()
    ) -> StoredResult | None:
        """Return the result to store; None where the task's is ignored or there is no id.

        `following` tells of the calls that come after a success: they are its children, too.
        """
        delivery, outcome, job = settlement.delivery, settlement.outcome, settlement.job
        task_id = header_id(delivery.message)
        if task_id is None or not self._wanted(outcome, job):
            return None
        match outcome:
            case Success(value, _, children):
                children = [*children, *following] if following else children
                return self._stored(
                    settlement, task_id, State.SUCCESS, value=value, children=children
                )
            case Failure(error, _, _, _, children):
                return self._stored(
                    settlement, task_id, State.FAILURE, error=error, children=children
                )
            case Retry(_, error, _, _, children):
                return self._stored(
                    settlement, task_id, State.RETRY, error=error, children=children
                )
            case Revoked(reason):
                error = revoked_error(reason)
                return self._stored(settlement, task_id, State.REVOKED, error=error)
            case Rejected(_, _, _, error) if error is not None:
                return self._stored(settlement, task_id, State.FAILURE, error=error)
            case _:
                return None

    def started(self, job: Job, pid: int) -> StoredResult | None:
        """Return the result that says that `job` runs; None where nobody wants to know."""
        if not job.runner.track_started or not self._wanted(Ignored(), job):
            return None
        settlement = Settlement(job.delivery, Ignored(), job, self._host.clock.time())
        meta = {"pid": pid, "hostname": self._hostname}
        return self._stored(settlement, job.request.id or "", State.STARTED, meta=meta)

    def _wanted(self, outcome: Outcome, job: Job | None) -> bool:
        if job is None:
            return True
        if not job.request.ignore_result:
            return True
        is_error = isinstance(outcome, Failure)
        return is_error and (self._store_errors or job.runner.store_errors)

    def _stored(
        self,
        settlement: Settlement,
        task_id: str,
        state: State,
        *,
        value: bytes | None = None,
        error: ErrorInfo | None = None,
        meta: Any = None,
        children: list[Any] | None = None,
    ) -> StoredResult:
        job, delivery = settlement.job, settlement.delivery
        request = job.request if job is not None else None
        is_ready = state not in (State.RETRY, State.STARTED)
        body = encode_result(
            task_id=task_id,
            state=state,
            value=value,
            error=error,
            meta=meta,
            children=children,
            date_done=settlement.done_at if is_ready else None,
            parent_id=request.parent_id if request is not None else None,
            group_id=request.group if request is not None else None,
            extended=self._extras(job) if self._extended and job is not None else None,
            serializer=self._serializer,
        )
        ttl_s = job.runner.result_ttl_s if job is not None else None
        return StoredResult(
            task_id=task_id,
            state=state,
            body=body,
            token=delivery.token,
            retries=request.result_order if request is not None else _order(delivery.message),
            ttl_s=self._expires if ttl_s is None else ttl_s,
        )

    def _extras(self, job: Job) -> dict[str, Any]:
        request = job.request
        stamps = {"stamped_headers": request.stamped_headers, **request.stamps}
        return {
            **(stamps if request.stamped_headers else {}),
            "name": request.task,
            "args": shown(request),
            "kwargs": request.kwargs,
            "worker": self._hostname,
            "retries": request.retries,
            "queue": job.delivery.queue,
        }


def _order(message: Message | Malformed) -> int:
    """Return how many attempts at a task came before that wasn't decoded."""
    return message.result_order if isinstance(message, Message) else 0
