"""Settings of the worker."""

from __future__ import annotations

from umbel.settings.autoscale import autoscale_problem
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
        name="worker_queue_order",
        type=str,
        default="round_robin",
        help="Which of several queues a process looks into first: each in turn (`round_robin`), "
        "as they are given, so that one has its turn when those before it are empty (`strict`), "
        "or by lot, by the `weight` that `task_queues` gives them (`weighted`).",
        choices=("round_robin", "strict", "weighted"),
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
        name="worker_disable_rate_limits",
        type=bool,
        default=False,
        help="Start tasks as they come, whatever their rate limits.",
        group=_GROUP,
    ),
    Setting(
        name="worker_unknown_task",
        type=str,
        default="hold",
        help="What becomes of a task that no such name is registered for: `hold` it for workers "
        "that may know it, as in a rolling deploy, or make it a `dead_letter` at once.",
        choices=("hold", "dead_letter"),
        celery_default_differs="it is discarded",
        group=_GROUP,
    ),
    Setting(
        name="worker_unknown_task_hold_s",
        type=float,
        default=300.0,
        help="How long an unknown task is held, tried again with growing delays, before it is a "
        "dead letter.",
        unit="seconds",
        minimum=0.0,
        group=_GROUP,
    ),
    Setting(
        name="worker_max_memory_per_child",
        type=int | None,
        default=None,
        help="Replace a process that has more memory than this after a task.",
        unit="kilobytes",
        minimum=1,
        aliases=((0, None),),
        default_text="no limit",
        group=_GROUP,
    ),
    Setting(
        name="worker_memory_ceiling_bytes",
        type=int | None,
        default=None,
        help="Kill a process that has more memory than this, whatever it runs; to that, it counts "
        "as if it had killed its process.",
        unit="bytes",
        minimum=1,
        aliases=((0, None),),
        default_text="no limit",
        group=_GROUP,
    ),
    Setting(
        name="worker_autoscale",
        type=str | None,
        default=None,
        help="`MAX,MIN`, such as `10,3`: the number of processes follows the load between these.",
        default_text="a fixed number",
        check=autoscale_problem,
        group=_GROUP,
    ),
    Setting(
        name="worker_autoscale_idle_s",
        type=float,
        default=30.0,
        help="How long fewer processes must have been enough before their number shrinks.",
        unit="seconds",
        minimum=0.1,
        group=_GROUP,
    ),
    Setting(
        name="worker_consume_timeout_s",
        type=float | None,
        default=60.0,
        help="Replace a process that runs nothing and hasn't come back from the broker for so "
        "long; a receive that finds nothing takes 5 s. None: never.",
        unit="seconds",
        minimum=7.0,
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
