"""What a worker made of a workflow, compared with what it must come to."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from umbel.errors import UmbelError
from umbel.results import AsyncResult, GroupResult
from workflows.nodes import Node
from workflows.reference import (
    Error,
    Expected,
    Leaf,
    Many,
    Result,
    Value,
    errors_in,
    expected_of,
    is_quiet,
    part_of,
    with_added,
)
from workflows.tasks import Run

if TYPE_CHECKING:
    from umbel import Umbel
    from umbel.outcomes import ChordProgress
    from umbel.results.codec import ResultDocument

#: What must be, what is, and where.
_Pair: TypeAlias = "tuple[Result, Any, str]"
#: Where an error began: the last error that its text names.
_CAUSE = re.compile(r"(?:ValueError|TaskRevokedError)\W+(\w+)")
_DEPENDENCY = re.compile(r"^Dependency (\S+) raised ")


def differences(
    app: Umbel,
    node: Node,
    result: Any,
    runs: Iterable[Run],
    *,
    is_once: bool = True,
    timeout: float = 5.0,
) -> list[str]:
    """Return in what way `result` and `runs` aren't what `node` must come to.

    Args:
        app: Where it was sent.
        node: The workflow.
        result: What sending it returned; it is over.
        runs: What has run.
        is_once: Every attempt was made once; False: once or more, under the same id.
        timeout: Seconds to wait for the result.
    """
    expected = expected_of(node)
    found = [*_of_runs(expected, runs, is_once=is_once)]
    pairs: list[_Pair] = []
    found += _matched(expected.result, result, "result", pairs)
    documents = app.results.load([actual.id for each, actual, _ in pairs if isinstance(each, Leaf)])
    counts = app.backend.chord_progress(
        [actual.id for each, actual, _ in pairs if isinstance(each, Many)]
    )
    for each, actual, place in pairs:
        if isinstance(each, Leaf):
            told = _of_leaf(each, documents.get(actual.id))
        else:
            told = _of_progress(each, counts.get(actual.id))
        found += (f"{place}: {what}" for what in told)
    if not found and not is_quiet(expected.result):
        found += _of_value(expected.result, result, timeout)
    return found


def differences_of_value(node: Node, result: Any, runs: Iterable[Run]) -> list[str]:
    """Return the same, of what ran and what a caller gets alone."""
    expected = expected_of(node)
    found = [*_of_runs(expected, runs, is_once=True)]
    if not found and not is_quiet(expected.result):
        found += _of_value(expected.result, result, 0.0)
    return found


def _of_runs(expected: Expected, runs: Iterable[Run], *, is_once: bool) -> Iterator[str]:
    """Compare the effects, which are told apart by the ids of their tasks."""
    # What replaces a task has its id.
    by_id: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        by_id[run.task_id, run.tag].append(run)
    actual: Counter[tuple[str, str, int]] = Counter()
    for (task_id, _), own in by_id.items():
        inputs = {run.input for run in own}
        if len(inputs) > 1:
            yield f"task {task_id} ran with more than one input: {sorted(inputs)}"
        attempts = {run.retries for run in own}
        if attempts != set(range(len(attempts))) or (is_once and len(own) != len(attempts)):
            yield f"task {own[0].tag}: attempts {sorted(run.retries for run in own)}"
        actual[own[0].tag, own[0].input, len(attempts)] += 1
    for tag, given, attempts in sorted((expected.runs - actual).elements()):
        yield f"didn't run: {tag}{given}, {attempts} times"
    for tag, given, attempts in sorted((actual - expected.runs).elements()):
        yield f"ran, but shouldn't: {tag}{given}, {attempts} times"


def _matched(expected: Result, actual: Any, place: str, pairs: list[_Pair]) -> Iterator[str]:
    """Compare the shape of results; add those that belong together to `pairs`."""
    if isinstance(expected, Leaf):
        if not isinstance(actual, AsyncResult):
            yield f"{place}: {actual!r} should be the result of a task"
            return
    else:
        if not isinstance(actual, GroupResult):
            yield f"{place}: {actual!r} should be the result of a group"
            return
        if len(actual.results) != len(expected.members):
            yield f"{place}: has {len(actual.results)} members, not {len(expected.members)}"
            return
        for at, (each, of_each) in enumerate(zip(expected.members, actual.results, strict=True)):
            yield from _matched(each, of_each, f"{place}.{at}", pairs)
    pairs.append((expected, actual, place))
    if (expected.parent is None) != (actual.parent is None):
        yield f"{place}: its parent is {actual.parent!r}, not {expected.parent!r}"
    elif expected.parent is not None:
        yield from _matched(expected.parent, actual.parent, f"{place}.parent", pairs)


def _of_leaf(leaf: Leaf, document: ResultDocument | None) -> Iterator[str]:
    if document is None:
        if not leaf.is_quiet:
            yield f"nothing is stored, it should be {leaf.outcome!r}"
        return
    if leaf.is_quiet and document.status == "RETRY":
        return  # what replaced the task wants no result stored
    match leaf.outcome:
        case Value(value):
            if document.status != "SUCCESS" or document.result != value:
                yield f"{document.status} {document.result!r}, not {value!r}"
        case Error() as error:
            told = document.error
            if document.status != error.state or told is None:
                yield f"{document.status} {document.result!r}, not {error!r}"
            elif told.exc_type != error.exc_type or _cause(told) not in error.causes:
                yield f"{told.exc_type} {told.exc_message}, not {error!r}"


def _of_progress(many: Many, progress: ChordProgress | None) -> Iterator[str]:
    """Compare how far a group has come, where its members are counted."""
    parts = list(with_added(many.members))
    size, failed = len(parts), sum(isinstance(part_of(each), Error) for each in parts)
    if progress is None:
        if size and not failed and all(isinstance(each, Leaf) for each in many.members):
            yield "nothing is known of its progress"
    elif many.error is None:
        # A chord that fails at once counts no further, and doesn't grow any more.
        fewest, least = (len(many.members), 1) if failed else (size, size)
        is_size = fewest <= progress.size <= size and least <= progress.done <= size
        if not is_size or progress.failed > failed:
            yield f"{progress}, where {failed} of {size} fail"


def _cause(told: Any) -> str:
    text = str(told.exc_message[0])
    if told.exc_type != "ChordError":
        return text
    found = _CAUSE.findall(text)
    return found[-1] if found else text


def _of_value(expected: Result, actual: Any, timeout: float) -> Iterator[str]:
    """Compare what a caller gets who waits for it."""
    outcome = part_of(expected)
    try:
        value = actual.get(timeout=timeout)
    except (UmbelError, ValueError) as exc:
        errors = errors_in(expected)
        if type(exc).__name__ not in errors:
            yield f"get() raises {exc!r}, not one of {sorted(errors)}"
        return
    if not isinstance(outcome, Value):
        yield f"get() returns {value!r}, it should raise {outcome!r}"
    elif value != outcome.value:
        yield f"get() returns {value!r}, not {outcome.value!r}"
