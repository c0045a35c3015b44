"""What a running task is called on the board of its child: so that its supervisor knows it again.

By the receipt of its delivery, where the broker tells what each process holds. A broker without
leases can't, and may have another receipt for each delivery: there it is the task's id with the
number of the attempt, which is a new one for a retry, a replay and another sending of the id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING

from umbel.interfaces.broker import Capability
from umbel.messages import Malformed
from umbel.worker.decode import header_id

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.messages import Message

#: Longer ids than those that umbel makes stand as a digest.
_LONGEST_ID = 36
_DIGEST_BYTES = 16


def are_by_receipt(broker: Broker) -> bool:
    """Tell whether slots are named by the receipts of `broker`'s deliveries, not by task."""
    return Capability.LEASE in broker.capabilities


def slot_name(message: Message | Malformed) -> str:
    """Return the name of an attempt at a task: short, and of printable ASCII characters."""
    if isinstance(message, Malformed) or not isinstance(message.headers, Mapping):
        return "/0"
    return f"{_short(header_id(message) or '')}/{message.result_order}"


def name_in(key: bytes) -> str:
    """Return the `slot_name` that a slot says."""
    return key.rstrip(b"\0").decode("ascii", "backslashreplace")


def task_of(name: str) -> str:
    """Return the id of the task that `name` is of, or the digest that stands for it."""
    return name.rpartition("/")[0]


def named(task_ids: Collection[str], keys: Collection[bytes]) -> dict[bytes, str]:
    """Return which of `keys` are slots of one of these tasks, and of which."""
    ids = {_short(task_id): task_id for task_id in task_ids}
    found = ((key, ids.get(task_of(name_in(key)))) for key in keys)
    return {key: task_id for key, task_id in found if task_id is not None}


def _short(task_id: str) -> str:
    if len(task_id) <= _LONGEST_ID and task_id.isascii() and task_id.isprintable():
        return task_id
    raw = task_id.encode("utf-8", "surrogatepass")
    return f"~{blake2b(raw, digest_size=_DIGEST_BYTES).hexdigest()}"
