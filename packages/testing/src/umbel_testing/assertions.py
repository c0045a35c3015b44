"""Assertions about what an app has sent and nobody has run yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from umbel_testing.enqueued_calls import Enqueued, Wanted, enqueued, name_of, seconds_until

if TYPE_CHECKING:
    from umbel import Umbel
    from umbel.tasks.task import Task

#: Calls that a failure lists at most.
_SHOWN = 20


def assert_enqueued(
    app: Umbel,
    task: Task[..., Any] | str | None = None,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    countdown: float | None = None,
    eta: datetime | float | None = None,
    within: float = 1.0,
    count: int | None = None,
) -> list[Enqueued]:
    """Fail unless such a call waits in a queue; what isn't given doesn't matter.

    Args:
        app: The app.
        task: The task, or its name.
        args: All positional arguments of the call, as it was made; a matcher such as
            ``unittest.mock.ANY`` may stand among them.
        kwargs: All keyword arguments.
        queue: Where it waits.
        countdown: Seconds from now at which it is due; 0: now.
        eta: The same as a moment.
        within: Seconds that `countdown` or `eta` may be off.
        count: How many there must be; None: one or more.
    Returns: The calls that are so.
    Raises: AssertionError: it tells what is there, and what comes nearest.
    """
    __tracebackhide__ = True
    now = app.clock.time()
    if countdown is None:
        countdown = seconds_until(eta, now)
    wanted = Wanted(
        name=name_of(task),
        args=args,
        kwargs=kwargs,
        queue=queue,
        countdown=countdown,
        within=within,
    )
    there = enqueued(app)
    found = [each for each in there if not wanted.differences(each, app)]
    if (found and count is None) or len(found) == count:
        return found
    if count is None:
        text = f"not enqueued: {wanted}"
    else:
        text = f"enqueued {len(found)} times, not {count}: {wanted}"
    raise AssertionError(text + ("" if found else _nearest(wanted, there, app)) + _listing(there))


def refute_enqueued(
    app: Umbel,
    task: Task[..., Any] | str | None = None,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
) -> None:
    """Fail if such a call waits in a queue.

    Args: as `assert_enqueued`.
    Raises: AssertionError: it tells which.
    """
    __tracebackhide__ = True
    wanted = Wanted(name=name_of(task), args=args, kwargs=kwargs, queue=queue)
    found = [each for each in enqueued(app) if not wanted.differences(each, app)]
    if found:
        raise AssertionError(f"enqueued, and should not be: {wanted}{_listing(found)}")


def _nearest(wanted: Wanted, there: Sequence[Enqueued], app: Umbel) -> str:
    """Say what comes nearest: the fewest differences, and another task's call last of all."""
    ranked = [(wanted.differences(each, app), each) for each in there]
    if not ranked:
        return ""
    differ, best = min(ranked, key=lambda pair: ("task" in pair[0], len(pair[0])))
    verb = "differs" if len(differ) == 1 and not differ[0].endswith("args") else "differ"
    return f"\n  nearest: {best} ({', '.join(differ)} {verb})"


def _listing(calls: Sequence[Enqueued]) -> str:
    if not calls:
        return "\n  nothing is enqueued"
    lines = [f"    {each}" for each in calls[:_SHOWN]]
    if len(calls) > _SHOWN:
        lines.append(f"    … and {len(calls) - _SHOWN} more")
    return "\n".join([f"\n  enqueued ({len(calls)}):", *lines])
