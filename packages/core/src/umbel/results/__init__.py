"""Results: what calling a task returns, and how its value is read and waited for."""

from __future__ import annotations

from umbel.results.async_result import AsyncResult, EagerResult
from umbel.results.guard import allow_join_result, denied_join_result

__all__ = ["AsyncResult", "EagerResult", "allow_join_result", "denied_join_result"]
