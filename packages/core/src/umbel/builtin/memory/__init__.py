"""``memory://``: broker, results and coordinator inside this process, for tests and small programs.

Nothing is durable and nothing reaches another process. All handles of one app with the same URL
share one space (umbel.builtin.memory.space); two apps never do.
"""
