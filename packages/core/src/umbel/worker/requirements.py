"""What a worker requires before it starts: a broker that can be used and is able, and queues."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from umbel.errors import BrokerUnavailableError, ConfigError
from umbel.interfaces.broker import Capability
from umbel.routing import Router

if TYPE_CHECKING:
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.settings import Settings

logger = logging.getLogger("umbel.worker")


def check_capabilities(
    broker: Broker, processes: int, coordinator: Coordinator | None = None
) -> None:
    """Raise ConfigError where a worker can't do its work over this broker; warn of less.

    `coordinator` keeps what is known of tasks whose process died, where the broker has no leases.
    """
    name, able = type(broker).__name__, broker.capabilities
    needed = {
        Capability.DELAY: "retries and eta wait in the broker",
        Capability.DEAD_LETTER: "what can't be run must be kept: name a result backend or a "
        "coordinator_url that can keep it",
    }
    if processes:
        needed[Capability.SHARED] = "child processes consume for themselves; use an embedded worker"
    missing = [f"{each} ({why})" for each, why in needed.items() if each not in able]
    if missing:
        raise ConfigError(f"{name} lacks what this worker needs: {', '.join(missing)}")
    keeps_fates = coordinator is not None and coordinator.shared
    if processes and Capability.LEASE not in able and not keeps_fates:
        logger.warning(
            "%s has no leases, and no coordinator is shared: a task that kills its process, or "
            "whose hard time limit ends it, is delivered again each time; name a result backend "
            "or a coordinator_url that other processes see",
            name,
        )


def wait_for_broker(broker: Broker, conf: Any, sleep: Callable[[float], object]) -> None:
    """Return once the broker can be used.

    Raises: BrokerError: it can't, and trying again won't help or isn't wanted (settings
        ``broker_connection_retry_on_startup``, ``broker_connection_max_retries``).
    """
    pause_s, tries = 0.2, 0
    while True:
        try:
            broker.check()
        except BrokerUnavailableError as exc:
            tries += 1
            most = conf.broker_connection_max_retries
            if not conf.broker_connection_retry_on_startup or (most and tries >= most):
                raise
            if tries == 1:
                logger.error("the broker can't be reached yet, trying until it can: %s", exc)
            sleep(pause_s * (0.5 + random.random() / 2))
            pause_s = min(pause_s * 2, 2.0)
        else:
            return


def queues_of(conf: Settings, queues: Sequence[str] | None, exclude: Sequence[str]) -> list[str]:
    """Return the queues to consume: those given, else declared, else the default one.

    Raises: ConfigError: none is left, or one isn't declared where that is needed.
    """
    left = list(Router(conf).select(queues or (), exclude))
    if not left:
        raise ConfigError(f"no queue is left to consume once {', '.join(exclude)} are excluded")
    return left
