"""Results: what calling a task or a workflow returns, and how it is read and waited for."""

from __future__ import annotations

from umbel.results.async_result import AsyncResult, EagerResult
from umbel.results.group_result import GroupResult
from umbel.results.guard import allow_join_result, denied_join_result
from umbel.results.progress import GroupProgress
from umbel.results.result_set import ResultSet
from umbel.results.tuples import result_from_tuple

__all__ = [
    "AsyncResult",
    "EagerResult",
    "GroupProgress",
    "GroupResult",
    "ResultSet",
    "allow_join_result",
    "denied_join_result",
    "result_from_tuple",
]
