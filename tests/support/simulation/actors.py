"""Who acts in a world: the client, nodes (a supervisor each), and their processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulation.director import Carrier
from simulation.oracle import Item
from simulation.stage import APP, CLOCK
from umbel.builtin.memory.backend import MemoryBackend
from umbel.builtin.memory.coordinator import MemoryCoordinator
from umbel.errors import BrokerUnavailableError
from umbel.workflow_store import WorkflowStore
from umbel_testing.faulty_handles import FaultyBackend, FaultyBroker
from umbel_testing.stepping import StepNode, StepProcess

if TYPE_CHECKING:
    from simulation.world import World
    from umbel.messages import Delivery

QUEUES = ("celery", "second")


class ActorHost:
    """The app, with handles whose calls are those of one actor."""

    def __init__(self, world: World, actor: Any):
        self._world, self._actor = world, actor
        self.main, self.conf, self.tasks, self.events = APP.main, APP.conf, APP.tasks, APP.events
        self.clock, self.new_id, self.serializer = APP.clock, APP.new_id, APP.serializer
        self.message_for, self.pool, self.import_tasks = APP.message_for, APP.pool, APP.import_tasks
        coordinator = self.open_coordinator()
        self.workflow_store = WorkflowStore(APP.conf, lambda: coordinator, APP.serializer)

    def open_broker(self) -> Any:
        broker = self._world.planted.broker_class(self._world.space, CLOCK)
        broker.configure(once_window_s=APP.conf.task_once_window_s, bounds={})
        return FaultyBroker(broker, Carrier(self._world, self._actor, "broker"))

    def open_backend(self) -> Any:
        backend = MemoryBackend(self._world.space, CLOCK)
        return FaultyBackend(backend, Carrier(self._world, self._actor, "backend"))

    def open_coordinator(self) -> Any:
        return MemoryCoordinator(self._world.space, CLOCK)


class Client:
    """Sends the program. Stands in the app for its own handles, too."""

    name = "client"

    def __init__(self, world: World, items: list[Item]):
        self._world, self.items = world, items
        host = ActorHost(world, self)
        self.broker, self.backend = host.open_broker(), host.open_backend()
        self.coordinator = host.open_coordinator()

    def may_meet(self, fault: str, _step: str) -> bool:
        return fault in ("fail", "lose", "outage")

    def send(self) -> None:
        """Send the next item, and note whether it is known to be sent."""
        item = self.items.pop(0)
        task = APP.tasks[f"simulation.stage.{item.kind}"]
        task_id = APP.new_id()
        options = dict(item.options)
        if item.n % 3 == 0:
            options |= {"task_id": task_id, "on_conflict": "return"}
        oracle = self._world.oracle
        try:
            task_id = task.apply_async(item.args, **options).id
        except BrokerUnavailableError:
            return
        oracle.sent[task_id] = item
        self._world.tell(self.name, f"sent {item.kind} {item.n}", task_id[-4:])

    def close(self) -> None:
        """Called by the app."""


class SimNode:
    """A node: its supervisor is an actor, and so is each of its processes."""

    def __init__(self, world: World, number: int, processes: int):
        self.world, self.name, self.wanted = world, f"node{number}", processes
        self.is_dead = self.is_held_up = self.is_busy = False
        self.processes: list[SimProcess] = []
        #: Dead, and not noticed yet.
        self.dead: list[SimProcess] = []
        self.host = ActorHost(world, self)
        self._started = 0
        self.consumers: set[str] = set()
        self.step = StepNode(self.host, QUEUES, hostname=self.name)

    def may_meet(self, fault: str, _step: str) -> bool:
        return not fault.startswith("crash") and fault != "twice"

    def beat(self) -> None:
        """Do what a supervisor does every few seconds."""
        self.is_busy = True
        try:
            while self.dead:
                self.step.bury(self.dead.pop(0).step)
            self.step.beat()
            while len(self.processes) < self.wanted:
                self._start_process()
        finally:
            self.is_busy = False

    def _start_process(self) -> None:
        self._started += 1
        process = SimProcess(self, f"{self.name}.{self._started}")
        self.processes.append(process)

    def leave(self) -> bool:
        """End in order, if nothing is unsettled; tell whether it did."""
        for process in self.processes:
            if not process.finish():
                return False
        if self.dead or not self.step.recovery.is_done:
            return False
        self.step.leave()
        self.is_dead = True
        return True


class SimProcess:
    """A process of a node."""

    def __init__(self, node: SimNode, name: str):
        self.world, self.node, self.name = node.world, node, name
        self.is_dead = self.is_held_up = False
        self.owed: list[Delivery] = []
        #: When (a moment of the oracle) the backend last told it of results.
        self.looked_at = 0
        node.step._host = ActorHost(node.world, self)
        try:
            self.step: StepProcess = node.step.start_process(
                pause=node.world.pause, jitter=node.world.rng.random
            )
        finally:
            node.step._host = node.host
        self.consumer = self.step.consumer.identity.consumer
        node.consumers.add(self.consumer)
        node.world.process_of[self.consumer] = self

    def may_meet(self, fault: str, step: str) -> bool:
        return fault != "twice" or step == "receive"

    def turn(self) -> None:
        """Receive a batch, run some or all of it, settle now or later."""
        rng, step = self.world.rng, self.step
        if rng.random() < 0.3:
            step.settle()
        if self.owed and step.consumer.give_back(self.owed):
            self.owed = []
        batch = step.receive(rng.choice((1, 1, 2, 4)))
        jobs = step.take(batch)
        step.take_dropped()
        for at, job in enumerate(jobs):
            if at and rng.random() < 0.1:
                back = [each.delivery for each in jobs[at:]]
                if not step.consumer.give_back(back):
                    self.owed += back
                break
            step.run(job)
            if rng.random() < 0.4:
                step.settle()
        if rng.random() < 0.7:
            step.settle()

    def finish(self) -> bool:
        """Settle and give back all; tell whether that is done."""
        if self.owed and self.step.consumer.give_back(self.owed):
            self.owed = []
        return self.step.settle() and not self.owed
