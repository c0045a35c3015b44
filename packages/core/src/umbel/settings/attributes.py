"""Every setting of core as a typed attribute, for type checkers and editors.

A test keeps these annotations and the table equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class SettingAttributes:
    """What `app.conf` can be asked for by attribute. Values only exist on `Settings`.

    A plugin's settings are read as items: ``app.conf["sqs_wait_s"]``.
    """

    # general
    imports: Sequence[str]
    include: Sequence[str]
    accept_content: Sequence[str]
    timezone: str
    enable_utc: bool
    # broker
    broker_url: str
    broker_transport_options: Mapping[str, Any]
    broker_connection_retry_on_startup: bool
    broker_connection_max_retries: int | None
    # results
    result_backend: str | None
    result_backend_transport_options: Mapping[str, Any]
    coordinator_url: str | None
    result_allowed_exceptions: Sequence[str] | None
    result_expires: float | None
    result_serializer: str
    result_max_bytes: int
    result_extended: bool
    # tasks
    task_serializer: str
    task_compression: str | None
    task_protocol: int
    task_publish_retry: bool
    task_publish_retry_policy: Mapping[str, Any]
    task_publish_deadline_s: float | None
    task_message_max_bytes: int
    task_message_max_depth: int
    task_once_window_s: float
    task_inherit_parent_priority: bool
    task_default_queue: str
    task_default_exchange: str | None
    task_default_routing_key: str | None
    task_default_delivery_mode: int
    task_default_priority: int | None
    task_queues: Sequence[Any] | Mapping[str, Any] | None
    task_create_missing_queues: bool
    task_routes: Mapping[Any, Any] | Sequence[Any] | Callable[..., Any] | str | None
    task_annotations: Mapping[str, Any] | Sequence[Any] | Callable[..., Any] | str | None
    task_acks_late: bool
    task_acks_on_failure_or_timeout: bool
    task_reject_on_worker_lost: bool
    task_max_deliveries: int
    task_dead_letter: str
    task_time_limit: float | None
    task_soft_time_limit: float | None
    task_default_rate_limit: str | float | None
    task_track_started: bool
    task_ignore_result: bool
    task_store_errors_even_if_ignored: bool
    task_always_eager: bool
    task_eager_propagates: bool
    task_store_eager_result: bool
    # canvas
    canvas_semantics: str
    canvas_max_inline: int | None
    canvas_expires: float
    # worker
    worker_pool: str
    worker_concurrency: int | None
    worker_processes: int | None
    worker_preload_app: bool
    worker_prefetch_multiplier: int | None
    worker_queue_order: str
    worker_lease_s: float
    worker_shutdown_timeout: float | None
    worker_soft_shutdown_timeout: float
    worker_proc_alive_timeout: float
    worker_max_tasks_per_child: int | None
    worker_disable_rate_limits: bool
    worker_unknown_task: str
    worker_unknown_task_hold_s: float
    worker_max_memory_per_child: int | None
    worker_memory_ceiling_bytes: int | None
    worker_autoscale: str | None
    worker_autoscale_idle_s: float
    worker_consume_timeout_s: float | None
    worker_deduplicate_successful_tasks: bool
    worker_send_task_events: bool
    worker_hijack_root_logger: bool
    worker_log_format: str
    worker_task_log_format: str
