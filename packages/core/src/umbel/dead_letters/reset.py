"""The result of a replayed task says that it runs again, so that who waits for it waits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from umbel.errors import BackendError
from umbel.messages import Message
from umbel.outcomes import ErrorInfo, StoredResult
from umbel.results.codec import encode_result
from umbel.states import State, is_final

if TYPE_CHECKING:
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.serializer import Serializer
    from umbel.settings import Settings

logger = logging.getLogger("umbel.dead_letters")

_AGAIN = "replayed from the dead letters"
_ERROR = ErrorInfo("Retry", "celery.exceptions", [_AGAIN], None, _AGAIN)


class Results(Protocol):
    """Where results are, and how they are written."""

    @property
    def conf(self) -> Settings:
        """The app's settings."""

    @property
    def backend(self) -> Backend | None:
        """This process's handle of the result backend."""

    def serializer(self, name_or_content_type: str) -> Serializer:
        """Return a serializer."""


def reset_results(app: Results, messages: Sequence[Message]) -> None:
    """Put RETRY in the place of the final results of these tasks, which were sent again.

    What a worker has stored of the new runs meanwhile stays. Where the backend is away, the old
    result stands until the new one is stored: the tasks run all the same.
    """
    backend = app.backend
    if backend is None or not messages:
        return
    serializer = app.serializer(app.conf.result_serializer)
    try:
        found = backend.load([message.id for message in messages])
        over = [m for m in messages if m.id in found and is_final(found[m.id].state)]
        results = [
            StoredResult(
                task_id=message.id,
                state=State.RETRY,
                body=encode_result(
                    task_id=message.id, state=State.RETRY, error=_ERROR, serializer=serializer
                ),
                # Below that of any delivery, which has a token of 1 or more.
                token=0,
                retries=message.result_order,
                ttl_s=app.conf.result_expires,
            )
            for message in over
        ]
        if results:
            backend.store(results)
    except BackendError as error:
        logger.warning("results of replayed tasks stand until the new ones are there: %s", error)
