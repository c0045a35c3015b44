"""Settings of the worker."""

from __future__ import annotations

from umbel.settings.schema import Setting

_GROUP = "worker"
_LINE = "[%(asctime)s: %(levelname)s/%(processName)s] "

SETTINGS = (
    Setting(
        name="worker_pool",
        type=str,
        default="process",
        help="What runs tasks: `process`, `threads`, `asyncio`, `solo` or what a plugin offers.",
        aliases=(("prefork", "process"), ("processes", "process")),
        default_text="`process` (Celery's word `prefork` means the same)",
        group=_GROUP,
    ),
    Setting(
        name="worker_concurrency",
        type=int | None,
        default=None,
        help="How many tasks run at once: processes of pool `process`, slots of one process "
        "in the others.",
        unit="tasks",
        minimum=1,
        default_text="a process for each processor; 16 slots in the other pools",
        group=_GROUP,
    ),
    Setting(
        name="worker_processes",
        type=int | None,
        default=None,
        help="How many processes a worker with pool `threads` or `asyncio` has, each with "
        "`worker_concurrency` slots.",
        unit="processes",
        minimum=1,
        default_text="1",
        group=_GROUP,
    ),
    Setting(
        name="worker_preload_app",
        type=bool,
        default=True,
        help="On Linux, import the app's module once and fork processes from there; else each "
        "process imports it for itself.",
        group=_GROUP,
    ),
    Setting(
        name="worker_prefetch_multiplier",
        type=int | None,
        default=None,
        help="At most this many messages a slot are taken ahead. Without it a process takes what "
        "it will finish within about 50 ms.",
        unit="messages",
        minimum=1,
        aliases=((0, None),),
        default_text="adapts",
        celery_default_differs="4",
        group=_GROUP,
    ),
    Setting(
        name="worker_lease_s",
        type=float,
        default=15.0,
        help="After this long without a sign of life, a node's messages go to other workers.",
        unit="seconds",
        minimum=0.1,
        group=_GROUP,
    ),
    Setting(
        name="worker_shutdown_timeout",
        type=float | None,
        default=20.0,
        help="How long running tasks may go on after TERM or Ctrl-C; None: to their end.",
        unit="seconds",
        minimum=0.0,
        celery_default_differs="to their end",
        group=_GROUP,
    ),
    Setting(
        name="worker_soft_shutdown_timeout",
        type=float,
        default=5.0,
        help="How long they may then take to clean up, after `SoftTimeLimitExceeded` was raised "
        "in them.",
        unit="seconds",
        minimum=0.0,
        celery_default_differs="0",
        group=_GROUP,
    ),
    Setting(
        name="worker_proc_alive_timeout",
        type=float,
        default=60.0,
        help="How long a new process may take to start before it is replaced.",
        unit="seconds",
        minimum=0.1,
        celery_default_differs="4",
        group=_GROUP,
    ),
    Setting(
        name="worker_max_tasks_per_child",
        type=int | None,
        default=None,
        help="Replace a process after this many tasks.",
        unit="tasks",
        minimum=1,
        aliases=((0, None),),
        default_text="no limit",
        group=_GROUP,
    ),
    Setting(
        name="worker_deduplicate_successful_tasks",
        type=bool,
        default=True,
        help="Don't run a message that came again when its result is final already.",
        celery_default_differs="false",
        group=_GROUP,
    ),
    Setting(
        name="worker_send_task_events",
        type=bool,
        default=False,
        help="Ask for task events, as `-E` does. Nothing sends them yet.",
        group=_GROUP,
    ),
    Setting(
        name="worker_hijack_root_logger",
        type=bool,
        default=False,
        help="Log by a handler on the root logger, in the place of all that it has; else by one on "
        "the logger `umbel`.",
        celery_default_differs="true",
        group=_GROUP,
    ),
    Setting(
        name="worker_log_format",
        type=str,
        default=_LINE + "%(message)s",
        help="Format of log lines, in the `%` style of `logging`.",
        group=_GROUP,
    ),
    Setting(
        name="worker_task_log_format",
        type=str,
        default=_LINE + "%(task_name)s[%(task_id)s]: %(message)s",
        help="Format of what is logged while a task runs, which also has `task_name` and "
        "`task_id`.",
        group=_GROUP,
    ),
)
