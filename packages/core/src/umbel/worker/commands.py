"""Remote control of a node: each command that it hears is carried out, and answered if asked to.

Runs on the thread that listens. What concerns the supervisor's children is done on the
supervisor's own thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from umbel.errors import ConfigError, UmbelError, near_matches
from umbel.inspection import REPLY_PREFIX, encode_reply
from umbel.rates import RATE_PREFIX, parse_rate

if TYPE_CHECKING:
    from umbel.interfaces.coordinator import Coordinator
    from umbel.worker.answers import Answers
    from umbel.worker.host import Host
    from umbel.worker.node import ControlMessage
    from umbel.worker.rate_table import RateTable

logger = logging.getLogger("umbel.worker")

#: Takes a command's arguments, returns its answer. Raises UmbelError: it can't be carried out.
Method = Callable[[Mapping[str, Any]], Any]


class Commands:
    """What a node does when told to. `obey` is for one thread."""

    def __init__(
        self,
        host: Host,
        answers: Answers,
        rates: RateTable,
        *,
        coordinator: Coordinator | None,
        note_revokes: Callable[[], object],
        terminate: Callable[[list[str], bool], object] | None = None,
        more: Mapping[str, Method],
    ):
        """Prepare.

        Args:
            host: The app.
            answers: Answers questions.
            rates: Where the node's rate limits are.
            coordinator: Has what is remembered; answers are published there.
            note_revokes: Called when the set of revoked tasks may have changed.
            terminate: Ends those of the tasks that run, and what descends from them where that
                is wanted, too; None: nothing can here.
            more: Further commands, of this kind of node.
        """
        self._host, self._hostname, self._rates = host, answers.hostname, rates
        self._coordinator = coordinator
        self._note_revokes, self._terminate = note_revokes, terminate
        #: Rates by task name that were set here alone, and those that are kept for all.
        self._own_rates: dict[str, float] = {}
        self._kept_rates: dict[str, float] = {}
        self._methods: dict[str, Method] = {
            "refresh": self._refresh,
            "revoke": self._revoke,
            "rate_limit": self._rate_limit,
            **more,
            **answers.methods,
        }

    def obey(self, message: ControlMessage) -> None:
        """Carry out a command and answer it. Raises what publishing an answer does."""
        try:
            answer = self._method(message.method)(message.arguments)
        except UmbelError as exc:
            answer = {"error": str(exc)}
            logger.warning("control command %.100s: %s", message.method, exc)
        except Exception as exc:
            answer = {"error": f"{type(exc).__name__}: {exc}"}
            logger.exception("control command %.100s failed", message.method)
        reply_to, ticket = message.reply_to, message.ticket
        if reply_to is None or ticket is None or self._coordinator is None:
            return
        if reply_to.startswith(REPLY_PREFIX):  # nobody makes this node speak anywhere else
            self._coordinator.publish(reply_to, encode_reply(ticket, self._hostname, answer))

    def _method(self, name: str) -> Method:
        method = self._methods.get(name)
        if method is None:
            known = [each for each in self._methods if each != "refresh"]
            close = near_matches(name[:100], known, limit=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigError(
                f"{self._hostname} knows no command {name[:100]!r}; {hint}"
                f"(there are: {', '.join(sorted(known))})"
            )
        return method

    def _revoke(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self._note_revokes()
        ids = _task_ids(arguments)
        if arguments.get("terminate") and ids and self._terminate is not None:
            self._terminate(ids, bool(arguments.get("descendants", True)))
        return {"ok": f"{len(ids)} task{'' if len(ids) == 1 else 's'} flagged as revoked"}

    def _refresh(self, _arguments: Mapping[str, Any]) -> None:
        """Learn of all that was said while nobody listened here."""
        self._note_revokes()
        self.read_rates()

    # -- rates ------------------------------------------------------------------------------------

    def read_rates(self) -> None:
        """Go by the rate limits that are kept with the coordinator; during an outage, later."""
        if self._coordinator is None:
            return
        try:
            found = self._coordinator.scan(RATE_PREFIX)
        except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
            logger.warning("can't read which rate limits were set, going by what is known: %s", exc)
            return
        before, self._kept_rates = self._kept_rates, {}
        for key, value in found.items():
            name = self._real_name(key.removeprefix(RATE_PREFIX))
            try:
                self._kept_rates[name] = parse_rate(value.decode("utf-8", "replace"))
            except ConfigError as exc:
                logger.error(
                    "the rate limit that is kept for task %s is passed over: %s", name, exc
                )
        for name in before.keys() | self._kept_rates.keys():
            self._apply(name)

    def _rate_limit(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if self._host.conf.worker_disable_rate_limits:
            raise ConfigError("worker_disable_rate_limits is set here, so no rate limit acts")
        name, rate = arguments.get("task_name"), arguments.get("rate_limit")
        if not isinstance(name, str) or self._host.tasks.resolve(name) is None:
            raise ConfigError(f"there is no task {name!r} here")
        name = self._real_name(name)
        parsed = None if rate is None else parse_rate(rate)
        # What is kept for all may have changed with it; what is said to this node goes before.
        self.read_rates()
        if parsed is None or self._kept_rates.get(name) == parsed:
            self._own_rates.pop(name, None)
        else:
            self._own_rates[name] = parsed
        self._apply(name)
        if parsed is None:
            return {"ok": f"rate limit of {name} is as its code says"}
        return {"ok": f"rate limit of {name} is {rate}" if parsed else f"{name} has no rate limit"}

    def _apply(self, name: str) -> None:
        """Put the rate of a task into force, in all processes of the node."""
        rate = self._own_rates.get(name, self._kept_rates.get(name))
        try:
            self._rates.override(name, rate)
        except ConfigError as exc:
            logger.error("task %s runs without the rate limit that was set: %s", name, exc)

    def _real_name(self, name: str) -> str:
        task = self._host.tasks.resolve(name)
        return name if task is None else task.name


def _task_ids(arguments: Mapping[str, Any]) -> list[str]:
    ids = arguments.get("task_id")
    if isinstance(ids, str):
        return [ids]
    return [str(each) for each in ids] if isinstance(ids, list) else []
