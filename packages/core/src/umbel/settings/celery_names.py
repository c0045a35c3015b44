"""Celery's setting names that umbel doesn't read, so that an error can say what to do instead.

Two kinds: the upper-case names from before Celery 4, which have new ones, and settings of
Celery that have no place here. A test keeps both apart from the table.
"""

from __future__ import annotations

from collections.abc import Container

#: Old names that the rules of `new_name` don't find.
_RENAMED = {
    "CELERY_AMQP_TASK_RESULT_EXPIRES": "result_expires",
    "CELERY_EAGER_PROPAGATES_EXCEPTIONS": "task_eager_propagates",
    "CELERY_MESSAGE_COMPRESSION": "task_compression",
    "CELERY_SEND_EVENTS": "worker_send_task_events",
    "CELERY_SEND_TASK_EVENTS": "worker_send_task_events",
    "CELERY_SEND_TASK_SENT_EVENT": "task_send_sent_event",
    "CELERY_TASK_RESULT_EXPIRES": "result_expires",
    "CELERYD_TASK_SOFT_TIME_LIMIT": "task_soft_time_limit",
    "CELERYD_TASK_TIME_LIMIT": "task_time_limit",
    "CELERYD_WORKER_LOST_WAIT": "worker_lost_wait",
}
#: Old prefix → new ones, in the order of trying.
_PREFIXES = (
    ("CELERYD_", ("worker_",)),
    ("CELERYBEAT_", ("beat_",)),
    ("CELERY_", ("", "task_", "worker_", "broker_")),
    ("", ("",)),
)

_IN_URL = "put it into broker_url"
_REMOVE = "remove it"
_NO_NEED = "umbel doesn't need it; remove it"
_NOT_YET = "not there yet; remove it"
#: Settings of Celery that have no place in umbel → what to do.
_HINTS = {
    "broker_channel_error_retry": _NO_NEED,
    "broker_connection_retry": "a worker always reconnects; remove it",
    "broker_connection_timeout": "set it in broker_transport_options, where the broker has it",
    "broker_failover_strategy": _REMOVE,
    "broker_heartbeat": _NO_NEED,
    "broker_heartbeat_checkrate": _NO_NEED,
    "broker_host": _IN_URL,
    "broker_login_method": "put it into broker_transport_options",
    "broker_native_delayed_delivery_queue_type": _NO_NEED,
    "broker_password": _IN_URL,
    "broker_pool_limit": _NO_NEED,
    "broker_port": _IN_URL,
    "broker_read_url": "set broker_url",
    "broker_transport": _IN_URL,
    "broker_use_ssl": "use a scheme with TLS in broker_url, and broker_transport_options",
    "broker_user": _IN_URL,
    "broker_vhost": _IN_URL,
    "broker_write_url": "set broker_url",
    "result_accept_content": "results are read by result_serializer alone; remove it",
    "result_backend_always_retry": "backends always retry; remove it",
    "result_backend_base_sleep_between_retries_ms": _REMOVE,
    "result_backend_max_retries": _REMOVE,
    "result_backend_max_sleep_between_retries_ms": _REMOVE,
    "result_backend_thread_safe": _NO_NEED,
    "result_cache_max": _NO_NEED,
    "result_chord_join_timeout": "no worker waits to join a chord; remove it",
    "result_chord_ordered": "results of a chord are always in order; remove it",
    "result_chord_retry_interval": "nothing polls for the end of a chord; remove it",
    "result_compression": _REMOVE,
    "result_exchange": _REMOVE,
    "result_exchange_type": _REMOVE,
    "result_persistent": _REMOVE,
    "task_acks_on_failure": "set task_acks_on_failure_or_timeout",
    "task_acks_on_timeout": "set task_acks_on_failure_or_timeout",
    "task_allow_error_cb_on_chord_header": "errbacks of a chord are always its members' too; remove it",
    "task_create_missing_queue_exchange_type": _REMOVE,
    "task_create_missing_queue_type": _REMOVE,
    "task_default_exchange_type": _REMOVE,
    "task_default_queue_type": _REMOVE,
    "task_queue_ha_policy": _REMOVE,
    "task_queue_max_priority": "priorities 0 to 255 work on every queue; remove it",
    "task_remote_tracebacks": _REMOVE,
    "task_send_sent_event": _NOT_YET,
    "worker_agent": _REMOVE,
    "worker_autoscaler": "set worker_autoscale, such as '10,3'; remove it",
    "worker_cancel_long_running_tasks_on_connection_loss": _NO_NEED,
    "worker_consumer": _REMOVE,
    "worker_detect_quorum_queues": _NO_NEED,
    "worker_direct": _REMOVE,
    "worker_disable_prefetch": "prefetching adapts by itself; remove it",
    "worker_enable_prefetch_count_reduction": _NO_NEED,
    "worker_enable_remote_control": _REMOVE,
    "worker_enable_soft_shutdown_on_idle": _NO_NEED,
    "worker_eta_task_limit": "delayed tasks wait in the broker; remove it",
    "worker_log_color": _REMOVE,
    "worker_lost_wait": _NO_NEED,
    "worker_pool_putlocks": _NO_NEED,
    "worker_pool_restarts": _NO_NEED,
    "worker_redirect_stdouts": "what tasks print is left alone; remove it",
    "worker_redirect_stdouts_level": "what tasks print is left alone; remove it",
    "worker_state_db": "revokes are kept by the coordinator; remove it",
    "worker_timer": _NO_NEED,
    "worker_timer_precision": _NO_NEED,
}
#: Groups of Celery's settings that belong to plugins here.
_GROUPS = (
    "arangodb_",
    "azureblockblob_",
    "beat_",
    "cache_backend",
    "cassandra_",
    "control_",
    "cosmosdbsql_",
    "couchbase_",
    "couchdb_",
    "database_",
    "dynamodb_",
    "elasticsearch_",
    "event_",
    "gcs_",
    "mongodb_",
    "redis_",
    "s3_",
    "security_",
)


def new_name(old: str, names: Container[str]) -> str | None:
    """Return the present name of Celery's upper-case setting `old`, or None.

    Args:
        old: Such as ``"CELERY_ACKS_LATE"`` or ``"BROKER_URL"``.
        names: The settings that there are.
    """
    if not old.isupper():
        return None
    if old in _RENAMED:
        return _RENAMED[old]
    for prefix, replacements in _PREFIXES:
        if not old.startswith(prefix):
            continue
        rest = old.removeprefix(prefix).lower()
        for replacement in replacements:
            candidate = replacement + rest
            # Without a prefix it may be anybody's constant: REDIS_HOST is no mistake.
            if candidate in names or candidate in _HINTS or (prefix and instead(candidate)):
                return candidate
    return None


def instead(name: str) -> str | None:
    """Return what to do instead of Celery's setting `name`; None where it isn't Celery's."""
    if name in _HINTS:
        return _HINTS[name]
    if name.startswith(_GROUPS):
        return "no plugin that is installed has it; install the plugin, or remove it"
    return None
