"""The queues of an app's broker: how full they are, pausing them, and what waits for its time.

`desk` has what ``app.queues`` offers, `delayed` what ``app.delayed`` does.
"""

from umbel.queues.delayed import DelayedFilter, DelayedMessages
from umbel.queues.desk import Queues

__all__ = ["DelayedFilter", "DelayedMessages", "Queues"]
