"""Tasks that may have been acknowledged early and were not run, since no answer came.

What the broker still holds for this consumer is given back, and comes again. What it has let go of
will not come again: it has failed, so that it isn't lost without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from umbel.error_info import error_info
from umbel.errors import WorkerLostError
from umbel.outcomes import Failure
from umbel.worker.jobs import Settlement
from umbel.worker.report import tell_not_run


def made_sure(
    batch: Sequence[Settlement],
    held: Callable[[], Mapping[str, int] | None],
    may_be_elsewhere: Callable[[Settlement], bool],
) -> Sequence[Settlement]:
    """Return `batch` with all decided of which `acked` is None.

    Args:
        batch: Settlements.
        held: Asks the broker what it thinks is held here: receipts and tokens; None where it
            can't tell.
        may_be_elsewhere: Tells whether another node may have taken one over.
    """
    if all(each.acked is not None for each in batch):
        return batch
    there = held()
    made: list[Settlement] = []
    for each in batch:
        delivery = each.delivery
        if each.acked is not None:
            made.append(each)
        elif there is None or there.get(delivery.receipt) == delivery.token:
            made.append(msgspec.structs.replace(each, acked=False))
        else:
            made.append(_never_run(each, may_be_elsewhere=may_be_elsewhere(each)))
    return made


def _never_run(settlement: Settlement, *, may_be_elsewhere: bool) -> Settlement:
    """Return the failure of a task that was acknowledged, as it seems, and never began."""
    error = WorkerLostError(
        "worker lost: the answer to its early acknowledgement was, so it wasn't run"
    )
    failure = Failure(error_info(error, with_traceback=False))
    if may_be_elsewhere:
        # Who has it may run it: then that result stands, and no errback is due.
        settlement = msgspec.structs.replace(settlement, job=None)
    elif settlement.job is not None:
        tell_not_run(settlement.job, failure)
    return msgspec.structs.replace(settlement, outcome=failure, acked=True)
