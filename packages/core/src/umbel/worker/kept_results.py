"""Long lists of results for the body of a chord: kept aside, so that no message grows with them.

The first calls of the body have None in the place of the list, and a header that says where it is;
whoever decodes them puts it back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from umbel.canvas.options import RESULTS
from umbel.error_info import error_info
from umbel.errors import ChordError, DecodeError
from umbel.outcomes import ChordPart, Failure, Rejected
from umbel.publishing.short_repr import short_repr
from umbel.workflow_store import RESULTS_PREFIX

if TYPE_CHECKING:
    from umbel.requests import Request
    from umbel.signatures import Signature
    from umbel.workflow_store import WorkflowStore

logger = logging.getLogger("umbel.worker")

#: A list that takes more than this many bytes as JSON is long.
LONG_BYTES: Final = 64 * 1024
#: Seconds until a message is looked at again whose list can't be read now.
_AGAIN_S: Final = 2.0


class _Place:
    """Stands for a long list among the arguments of a call that isn't sent yet."""


PLACE: Final = _Place()


def are_long(parts: Sequence[ChordPart], store: WorkflowStore) -> bool:
    """Tell whether the results of `parts` are to be kept aside."""
    if store.max_inline is None:
        return False
    return sum(len(part.result or b"") for part in parts) > LONG_BYTES


def kept_aside(
    calls: Sequence[Signature[Any]], values: list[Any], store: WorkflowStore
) -> list[Signature[Any]]:
    """Keep `values`, and return `calls` with a reference to them wherever they have `PLACE`.

    Raises: EncodeError: they can't be encoded. BackendUnavailableError. What the store raises.
    """
    first = next((call for call in calls if _has_place(call)), None)
    if first is None:
        return list(calls)
    # Named after the call that passes them on once it has succeeded.
    key: str = first.options["task_id"]
    store.put(RESULTS_PREFIX + key, values, ttl_s=store.ttl_s)
    return [_referring(call, key, values) if _has_place(call) else call for call in calls]


def _has_place(call: Signature[Any]) -> bool:
    return bool(call.args) and call.args[0] is PLACE


def _referring(call: Signature[Any], key: str, values: list[Any]) -> Signature[Any]:
    own = call.args[1:]
    options = {"argsrepr": short_repr((values, *own)), **call.options, RESULTS: key}
    return call.replace(args=(None, *own), options=options)


def put_back(
    args: Sequence[Any], key: str, store: WorkflowStore, label: str
) -> list[Any] | Failure | Rejected:
    """Return `args` with the results kept under `key` in the first place, or what keeps it from that.

    Raises: DecodeError: they can't be read.
    """
    try:
        values = store.get(RESULTS_PREFIX + key)
    except DecodeError:
        raise
    except Exception as exc:  # noqa: BLE001 - a plugin's own errors count as an outage
        reason = f"the results of its chord can't be read now: {exc}"
        return Rejected(reason, requeue=True, delay_s=_AGAIN_S)
    if values is None:
        text = (
            f"the results of its chord are no longer kept, under the key {key!r}; set "
            f"canvas_expires to more than a workflow can stand still"
        )
        logger.error("%s: it can't run: %s", label, text)
        return Failure(error_info(ChordError(text), with_traceback=False))
    return [values, *args[1:]]


def used_by(request: Request) -> Sequence[str]:
    """Return the keys of what `request`, which has succeeded, passes on for all that had it."""
    key = request.headers.get(RESULTS)
    return (RESULTS_PREFIX + key,) if key is not None and key == request.id else ()
