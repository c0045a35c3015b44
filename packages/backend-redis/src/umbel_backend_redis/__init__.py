"""Results and coordination on Redis, in Celery's own keys."""

from __future__ import annotations

__version__ = "0.1.0"
