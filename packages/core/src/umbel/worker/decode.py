"""Delivery → Job, or the outcome that refuses it. The one edge where foreign bytes are read.

`Decoder.decode` cannot raise: whatever is wrong with a message becomes a `Settlement` whose
reason says so, and the message ends with the dead letters.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from umbel.canvas.forms import check
from umbel.clock import parse_iso
from umbel.compression import decompress
from umbel.error_info import error_info
from umbel.errors import ConfigError, DecodeError, InvalidTaskError, UmbelError
from umbel.messages import DeathKind, Delivery, Malformed, Message
from umbel.outcomes import Failure, Rejected
from umbel.requests import Request
from umbel.worker.celery_tasks import celery_task, unknown_task
from umbel.worker.errbacks import revived
from umbel.worker.jobs import Job, Settlement
from umbel.worker.kept_results import put_back
from umbel.worker.runners import Runner
from umbel.worker.unknown_tasks import UnknownTasks

if TYPE_CHECKING:
    from umbel.interfaces.serializer import Serializer
    from umbel.worker.host import Host

logger = logging.getLogger("umbel.worker")

#: What every store can hold.
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
#: Seconds; 0 is Celery's way to say "none given". Longer ones are more than timers can take.
_Limit = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class _Headers(msgspec.Struct, frozen=True):
    """The headers of protocol 2 that the worker acts on, for checking their types."""

    task: str
    id: str
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    retries: _Count | None = 0
    eta: str | None = None
    expires: str | None = None
    timelimit: tuple[_Limit | None, _Limit | None] | None = None
    umbel_attempts_before: _Count | None = 0
    ignore_result: bool | None = False
    umbel_keep_result: bool | None = False
    origin: str | None = None
    shadow: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    replaced_task_nesting: int | None = 0
    stamped_headers: list[str] | None = None
    stamps: dict[str, Any] | None = None
    compression: str | None = None
    umbel_errback: bool | None = False
    umbel_results: str | None = None
    umbel_meta: dict[str, Any] | None = None


class _Embed(msgspec.Struct, frozen=True):
    """The third part of a body: what comes next."""

    callbacks: list[Any] | None = None
    errbacks: list[Any] | None = None
    chain: list[Any] | None = None
    chord: Any = None


#: What a body may be encoded as beside its serializer's own; all are read as UTF-8 or bytes.
_ENCODINGS: Final = frozenset({"", "utf-8", "utf8", "ascii", "us-ascii", "binary", "ascii-8bit"})
#: Characters of a reason that are kept: names in it may be as long as a message.
_REASON_LENGTH: Final = 1000

_NO_EMBED = _Embed()
_EMPTY_EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_convert = msgspec.convert


class _Refusal(UmbelError):
    """Why a message can't be run; internal to this module."""


class Decoder:
    """Decodes the deliveries of one worker process."""

    def __init__(self, host: Host, hostname: str, *, has_supervisor: bool = True):
        """Without a supervisor, who could end the process, a hard time limit acts as a soft one."""
        conf = host.conf
        self._has_supervisor = has_supervisor
        self._host = host
        self._hostname = hostname
        self._max_bytes = conf.task_message_max_bytes
        self._allowed = conf.result_allowed_exceptions or ()
        self._monotonic = host.clock.monotonic
        self._unknown = UnknownTasks(conf, self._monotonic)
        self._runners: dict[str, Runner] = {}
        self._serializers: dict[str, Serializer] = {}
        for name in conf.accept_content:
            serializer = host.serializer(name)
            self._serializers[serializer.content_type] = serializer

    def decode(self, delivery: Delivery) -> Job | Settlement:
        """Return the job of `delivery`, or the settlement that refuses it. Never raises."""
        message = delivery.message
        if isinstance(message, Malformed):
            return self._refuse(delivery, f"malformed message: {message.reason}")
        try:
            headers = self._headers(message)
            runner = self._runner(headers.task)
            if runner is None:
                outcome = self._unknown.outcome(delivery, headers.task, headers.id)
                if isinstance(outcome, Failure):
                    return Settlement(delivery, outcome, self._unrunnable(delivery, message))
                return Settlement(delivery, outcome)
            args, kwargs, embed = self._body(message, headers)
            if headers.umbel_errback:
                args = revived(args, self._allowed)
            if headers.umbel_results is not None:
                store, label = self._host.workflow_store, f"{runner.name}[{headers.id}]"
                found = put_back(args, headers.umbel_results, store, label)
                if not isinstance(found, list):
                    job = self._job(delivery, message, headers, runner, (args, kwargs, embed))
                    return Settlement(delivery, found, job)
                args = found
            return self._job(delivery, message, headers, runner, (args, kwargs, embed))
        except (_Refusal, DecodeError, ConfigError) as exc:
            return self._refuse(delivery, str(exc), self._outline(delivery, message))
        except Exception as exc:  # noqa: BLE001 - a message must never end the consumer
            reason = f"malformed message: {type(exc).__name__}: {exc}"
            return self._refuse(delivery, reason, self._outline(delivery, message))

    def _outline(self, delivery: Delivery, message: Message) -> Job | None:
        """Return the job of a message that can't be run, for whoever waits for its end.

        None: what comes after it can't be read either, or nothing does.
        """
        try:
            headers = msgspec.structs.replace(self._headers(message), eta=None, expires=None)
            *_, embed = self._parts(message, headers)
            calls = _convert(embed, _Embed)
            if not (calls.errbacks or calls.chain or calls.chord):
                return None
            for each in (*(calls.errbacks or ()), *(calls.chain or ())):
                check(each)
            if calls.chord is not None:
                check(calls.chord)
            runner = Runner(unknown_task(headers.task, self._host), self._host)
            return self._job(delivery, message, headers, runner, ([], {}, calls))
        except Exception as exc:  # noqa: BLE001 - as everywhere here
            logger.debug("%s: what follows from it isn't known: %s", header_id(message), exc)
            return None

    def _unrunnable(self, delivery: Delivery, message: Message) -> Job | None:
        """Return the job of an unknown task, for whoever waits for its end; None: unreadable."""
        try:
            headers = self._headers(message)
            runner = Runner(unknown_task(headers.task, self._host), self._host)
            return self._job(delivery, message, headers, runner, self._body(message, headers))
        except Exception as exc:  # noqa: BLE001 - as everywhere here
            logger.debug("%s: what follows from it isn't known: %s", header_id(message), exc)
            return None

    def runner(self, name: str) -> Runner | None:
        """Return the prepared task `name`; None where it isn't registered."""
        return self._runner(name)

    def _runner(self, name: str) -> Runner | None:
        runner = self._runners.get(name)
        if runner is None:
            task = self._host.tasks.resolve(name) or celery_task(name, self._host)
            if task is None:
                return None
            runner = self._runners[name] = Runner(task, self._host)
        return runner

    def _headers(self, message: Message) -> _Headers:
        try:
            return _convert(message.headers, _Headers)
        except (msgspec.ValidationError, TypeError) as exc:
            raise _Refusal(f"malformed headers: {exc}") from exc

    def _parts(self, message: Message, headers: _Headers) -> list[Any] | tuple[Any, ...]:
        """Return the three parts of the body, whatever they are."""
        data = message.body
        serializer = self._serializers.get(message.content_type)
        if serializer is None:
            accepted = ", ".join(self._serializers)
            raise _Refusal(
                f"content type {message.content_type!r:.80} isn't accepted "
                f"(accept_content allows {accepted})"
            )
        encoding = message.content_encoding
        if encoding != serializer.content_encoding and encoding.lower() not in _ENCODINGS:
            raise _Refusal(f"content encoding {encoding!r:.80} isn't known; send UTF-8")
        if len(data) > self._max_bytes:
            raise _Refusal(
                f"body of {len(data)} bytes is over task_message_max_bytes ({self._max_bytes})"
            )
        if headers.compression is not None:
            data = decompress(headers.compression, data, max_bytes=self._max_bytes)
        body = serializer.loads(data)
        if not isinstance(body, (list, tuple)) or len(body) != 3:
            raise _Refusal("body isn't a list of arguments, keyword arguments and embed")
        return body

    def _body(self, message: Message, headers: _Headers) -> tuple[list[Any], dict[str, Any], Any]:
        args, kwargs, embed = self._parts(message, headers)
        if not isinstance(args, (list, tuple)):
            raise _Refusal(f"arguments must be a list, not {type(args).__name__}")
        if not isinstance(kwargs, dict) or not all(type(key) is str for key in kwargs):
            raise _Refusal("keyword arguments must be an object")
        if embed == _EMPTY_EMBED or not embed:
            return list(args), kwargs, _NO_EMBED
        try:
            calls = _convert(embed, _Embed)
            for each in (*(calls.callbacks or ()), *(calls.errbacks or ()), *(calls.chain or ())):
                check(each)  # before the task runs: what follows it can be sent
            if calls.chord is not None:
                check(calls.chord)
        except (msgspec.ValidationError, DecodeError) as exc:
            raise _Refusal(f"malformed embed: {exc}") from exc
        return list(args), kwargs, calls

    def _job(
        self,
        delivery: Delivery,
        message: Message,
        headers: _Headers,
        runner: Runner,
        body: tuple[list[Any], dict[str, Any], _Embed],
    ) -> Job:
        args, kwargs, embed = body
        hard, soft = headers.timelimit or (None, None)
        soft, hard = soft or runner.soft_limit_s, hard or runner.hard_limit_s
        if not self._has_supervisor and hard is not None:
            soft, hard = hard if soft is None else min(soft, hard), None
        eta = _moment("eta", headers.eta)
        expires = _moment("expires", headers.expires)
        request = Request(
            id=headers.id,
            task=runner.name,
            args=args,
            kwargs=kwargs,
            root_id=headers.root_id or headers.id,
            parent_id=headers.parent_id,
            group=headers.group,
            group_index=headers.group_index,
            retries=headers.retries or 0,
            eta=headers.eta,
            expires=headers.expires,
            timelimit=headers.timelimit or (None, None),
            callbacks=embed.callbacks,
            errbacks=embed.errbacks,
            chain=embed.chain,
            chord=embed.chord,
            ignore_result=bool(headers.ignore_result)
            or (runner.ignore_result and not headers.umbel_keep_result),
            reply_to=message.reply_to,
            correlation_id=headers.id,
            origin=headers.origin,
            shadow=headers.shadow,
            argsrepr=headers.argsrepr,
            kwargsrepr=headers.kwargsrepr,
            replaced_task_nesting=headers.replaced_task_nesting or 0,
            stamped_headers=headers.stamped_headers,
            stamps=headers.stamps or {},
            headers=message.headers,
            delivery_info={
                "exchange": message.exchange,
                "routing_key": message.routing_key or delivery.queue,
                "priority": message.priority,
                "redelivered": delivery.redelivered,
            },
            token=delivery.token,
            properties=message.properties,
            hostname=self._hostname,
            called_directly=False,
        )
        return Job(
            delivery=delivery,
            request=request,
            runner=runner,
            eta_at=eta,
            expires_at=expires if expires is not None else message.expires_at,
            soft_limit_s=soft,
            hard_limit_s=hard,
            early_ack=runner.early_ack,
            received_at=self._monotonic(),
        )

    def _refuse(self, delivery: Delivery, reason: str, job: Job | None = None) -> Settlement:
        reason = reason[:_REASON_LENGTH]
        error = error_info(InvalidTaskError(reason), with_traceback=False)
        return Settlement(delivery, Rejected(reason, error=error, death=DeathKind.MALFORMED), job)


def _moment(name: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_iso(text)
    except (ValueError, OverflowError) as exc:
        raise _Refusal(f"header {name!r} isn't an ISO 8601 time: {text!r:.80}") from exc


def header_id(message: Message | Malformed) -> str | None:
    """Return the task id where the message has a usable one."""
    if isinstance(message, Malformed) or not isinstance(message.headers, Mapping):
        return None
    found = message.headers.get("id")
    return found if isinstance(found, str) and found else None
