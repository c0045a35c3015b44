"""What the worker needs of an app. The worker never imports the app: it is handed one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from umbel.clock import Clock
    from umbel.events import Events
    from umbel.ids import IdFactory
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.coordinator import Coordinator
    from umbel.interfaces.pool import PoolSpec
    from umbel.interfaces.serializer import Serializer
    from umbel.messages import Message
    from umbel.registry import TaskRegistry
    from umbel.requests import Request
    from umbel.settings import Settings
    from umbel.signatures import Signature
    from umbel.workflow_store import WorkflowStore


class Host(Protocol):
    """The side of an app that a worker sees."""

    @property
    def main(self) -> str:
        """The app's name."""

    @property
    def conf(self) -> Settings:
        """The app's settings, read and checked."""

    @property
    def tasks(self) -> TaskRegistry:
        """The app's tasks by name; aliases resolve."""

    @property
    def events(self) -> Events:
        """Listeners of each event, as tuples."""

    @property
    def clock(self) -> Clock:
        """Where to read the time."""

    @property
    def new_id(self) -> IdFactory:
        """Where to get new ids."""

    @property
    def workflow_store(self) -> WorkflowStore:
        """Where the pieces of workflows are kept that are too much to travel."""

    def import_tasks(self) -> None:
        """Import `include`, `imports` and autodiscovered modules, then finalize. Repeatable."""

    def serializer(self, name_or_content_type: str) -> Serializer:
        """Return the serializer. Raises: UnknownPluginError."""

    def pool(self, name: str) -> PoolSpec:
        """Return what is offered as the pool `name`. Raises: UnknownPluginError."""

    def message_for(self, signature: Signature[Any], *, parent: Request | None = None) -> Message:
        """Build the message of a call: routed, its arguments encoded, nothing sent.

        Args:
            signature: What to call. Its option ``task_id`` is the id; without one a new id is
                made.
            parent: The request that it follows from: gives ``root_id``, ``parent_id``, and the
                priority where ``task_inherit_parent_priority`` says so.
        Raises: EncodeError, ConfigError.
        """

    def open_broker(self) -> Broker:
        """Return a new handle of the broker, for a consumer of its own."""

    def open_backend(self) -> Backend | None:
        """Return a new handle of the result backend; None where results are disabled."""

    def open_coordinator(self) -> Coordinator | None:
        """Return a new handle of the coordinator; None where there is none."""
