"""The end of calls that their sender couldn't send, while others of their workflow are on their way.

What a worker does where a task fails, done by the sender: nobody else knows of these calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from umbel.error_info import error_info
from umbel.errors import AlreadySentError
from umbel.requests import Request
from umbel.worker.chords import Chords
from umbel.worker.follow_ups import NOTHING
from umbel.worker.joinings import Beyond, Joiner

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.messages import Message
    from umbel.signatures import Signature
    from umbel.worker.host import Host


def fail_unsent(
    host: Host,
    backend: Backend,
    broker: Broker,
    calls: Sequence[Signature[Any]],
    exc: Exception,
) -> None:
    """Let `calls` fail because of `exc`, with what comes after them and the chords they are of.

    Raises: what broker and backend do. Where a body's errbacks can't be sent, the chord stays
        open, and the worker that ends it sends them.
    """
    error = error_info(exc, with_traceback=False)
    joinings, results = Joiner(host).of_unreached(calls, error, host.clock.time())
    if isinstance(exc, AlreadySentError):
        # These run, for whoever sent them: what they end with is theirs to say.
        results = [each for each in results if each.task_id not in exc.task_ids]
    sender = Request(id=calls[0].options.get("task_id"), called_directly=False)
    chords = Chords(host, backend)
    sends: list[Message] = []
    ended = chords.settle([Beyond(sender, NOTHING, joinings, results)], sends)
    if sends:
        broker.send(sends)
    chords.close(ended)
