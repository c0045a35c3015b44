"""Bugs to plant: each is one that queues have had, and that the simulation must find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch

from umbel import requests
from umbel.builtin.memory.broker import MemoryBroker
from umbel.builtin.memory.message_store import MessageStore
from umbel.messages import Delivery, Message
from umbel.worker.intake import Intake
from umbel.worker.journal import Journal
from umbel.worker.settle import Settler
from umbel.worker.source import Source


class Planted:
    """A bug: another broker, or other methods of umbel's classes."""

    def __init__(
        self,
        name: str,
        *patches: Callable[[], AbstractContextManager[Any]],
        broker_class: type[MemoryBroker] = MemoryBroker,
    ):
        self.name, self.broker_class, self._patches = name, broker_class, patches

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have the bug in umbel for the time of a block."""
        with ExitStack() as stack:
            for each in self._patches:
                stack.enter_context(each())
            yield

    def __repr__(self) -> str:
        return self.name


NOTHING = Planted("nothing")


def _settle_before_storing(self: Settler, batch: Sequence[Any]) -> None:
    plans = [self._plan(settlement) for settlement in batch]
    done = [each for each in plans if each.give_back_s is None and each.bury is None]
    sends = [message for each in plans for message in each.follow_ups]
    self._broker.settle([each.delivery for each in done if not each.acked], sends)
    self._store(plans)
    self._put_away(plans)
    self._tell(batch)


def _attempt_and_forget(self: Settler, batch: list[Any], **_: Any) -> list[Any]:
    try:
        self._settle(batch)
    except Exception:
        return []
    return []


class NoStrikes(MemoryBroker):
    """Gives back what killed its process as if it hadn't."""

    def recover_consumer(self, consumer: str, *, struck: Mapping[str, float] = {}) -> int:
        return super().recover_consumer(consumer)


class SendsAgain(MemoryBroker):
    """Sends follow-ups without a look at what it knows."""

    def settle(
        self, deliveries: Sequence[Delivery], follow_ups: Sequence[Message]
    ) -> Sequence[Delivery]:
        if follow_ups:
            self.send(follow_ups)
        return self.ack(deliveries)


_new_ids = count()

PLANTED = [
    Planted(
        "acknowledged before it is stored",
        lambda: patch.object(Settler, "_settle", _settle_before_storing),
    ),
    Planted(
        "no fencing at the broker",
        lambda: patch.object(
            MessageStore, "holds", lambda self, receipt, _token: self._held.get(receipt)
        ),
    ),
    Planted(
        "no fencing of results",
        lambda: patch("umbel.builtin.memory.result_store._outranks", lambda _old, _new: False),
    ),
    Planted("no strikes", broker_class=NoStrikes),
    Planted("follow-ups sent again", broker_class=SendsAgain),
    Planted(
        "follow-ups of other ids at each try",
        lambda: patch.object(
            requests, "derived_id", lambda parent, edge: f"{parent}-{edge}-{next(_new_ids)}"
        ),
    ),
    Planted(
        "what is lost on its way is never given back",
        lambda: patch.object(Source, "reconcile", lambda _self, _known: None),
    ),
    Planted(
        "no journal of what was acknowledged early",
        lambda: patch.object(Journal, "note_early", lambda _self, _delivery: None),
    ),
    Planted(
        "lost acknowledgement of an early one is taken for none",
        lambda: patch.object(Settler, "add_unsure", lambda _self, _settlement: None),
    ),
    Planted(
        "finished ones run again",
        lambda: patch.object(Intake, "_finished", lambda _self, _job, _stored: False),
    ),
    Planted(
        "dead nodes are not looked for",
        lambda: patch.object(MessageStore, "expired", lambda _self, _tick: []),
    ),
    Planted(
        "a refused batch is dropped",
        lambda: patch.object(Settler, "_attempt", _attempt_and_forget),
    ),
]
