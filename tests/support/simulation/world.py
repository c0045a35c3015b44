"""One world: a program, a fleet, and the order in which all of it happens, from one seed."""

from __future__ import annotations

import random
import traceback
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from simulation.actors import QUEUES, Client, SimNode, SimProcess
from simulation.director import Director
from simulation.oracle import SUPERVISED, Oracle, Violation
from simulation.planted import NOTHING, Planted
from simulation.program import make_program
from simulation.stage import APP, CLOCK, IDS, LEASE_S, STAGE
from umbel.builtin.memory.space import Space
from umbel_testing.fault_effects import Crash

if TYPE_CHECKING:
    from umbel.requests import Request

_STEPS = 60
_LONGEST_HEALING = 400
_DEPTH = 2


class World:
    """A run of one seed."""

    def __init__(self, seed: int, planted: Planted = NOTHING, *, is_verbose: bool = False):
        self.seed, self.planted, self.is_verbose = seed, planted, is_verbose
        self.rng = random.Random(seed)
        random.seed(seed)  # what umbel takes its jitter from, where it isn't handed in
        CLOCK.reset()
        IDS.count = 0
        STAGE.world = self
        self.trace: list[tuple[float, str, str, str]] = []
        self.oracle = Oracle()
        self.oracle.excuse, self.oracle.claims = self._excuse, self._claims
        self.space = Space()
        self.space.messages, self.space.results = self.oracle.store, self.oracle.results
        self.director = Director(self)
        #: The calls of stores that are under way: who, and what.
        self.calling: list[tuple[Any, Any]] = []
        self.is_duplicating = 0
        self.running: list[SimProcess] = []
        self.process_of: dict[str, SimProcess] = {}
        self.depth = 0
        self.nodes: list[SimNode] = []
        self.node_count = self.rng.choice((1, 2, 2, 3))
        self._born = 0
        self.client = Client(self, make_program(self.rng))
        APP._handles = self.client  # type: ignore[assignment]
        APP._publisher = None  # it keeps an id for answers
        APP.publisher._sleep = self.pause

    # -- the run --------------------------------------------------------------------------------

    def run(self) -> None:
        """Run it to its end and check. Raises: Violation, or whatever umbel raises."""
        for _ in range(_STEPS):
            self.act()
        self.director.heal()
        self.tell("world", "heals", "")
        while self.client.items:
            self.client.send()
        self._heal()
        if self.oracle.violations:
            raise Violation(self.oracle.violations[0])
        self.oracle.check()

    def act(self) -> None:
        """Let somebody do something, or time go by."""
        choices: list[tuple[Any, Any]] = []
        alive = [node for node in self.nodes if not node.is_dead]
        for node in alive:
            if node.is_held_up:
                continue
            if not node.is_busy:
                choices.append((self._beat, node))
            for process in node.processes:
                if not process.is_held_up and process not in self.running:
                    choices += [(self._turn, process)] * 3
            if self.depth == 0 and self.rng.random() < 0.02:
                choices.append((self._leave, node))
        if self.client.items and self.depth < _DEPTH:
            choices += [(self._send, None)] * 2
        if len(alive) < self.node_count:
            choices.append((self._add_node, None))
        choices += [(self._wait, None)] * 2
        do, whom = self.rng.choice(choices)
        do(whom)
        if self.oracle.violations:
            raise Violation(self.oracle.violations[0])

    def _heal(self) -> None:
        for _ in range(_LONGEST_HEALING):
            self.nodes = [node for node in self.nodes if not node.is_dead]
            if not self.nodes:
                self._add_node(None)
            for node in self.nodes:
                self._beat(node)
                for process in list(node.processes):
                    self._turn(process)
                    process.step.settle()
            if self._is_quiet():
                return
            now = CLOCK.time()
            at = self.oracle.store.next_at(QUEUES)
            CLOCK.advance(min(max(0.01, at - now), LEASE_S / 2) if at is not None else LEASE_S / 2)

    def _is_quiet(self) -> bool:
        store, now = self.oracle.store, CLOCK.time()
        for name in store.names():
            stats = store.stats(name, now)
            if stats.ready or stats.delayed or stats.held:
                return False
        return all(
            not node.dead
            and node.step.recovery.is_done
            and not any(process.step.consumer.settler.backlog for process in node.processes)
            for node in self.nodes
        )

    # -- who does what --------------------------------------------------------------------------

    def _send(self, _: None) -> None:
        self.client.send()

    def _wait(self, _: None) -> None:
        seconds = self.rng.choice((0.1, 0.5, 1.0, 3.0, LEASE_S / 2, LEASE_S + 1))
        CLOCK.advance(seconds)

    def _add_node(self, _: None) -> None:
        self._born += 1
        try:
            self.nodes.append(SimNode(self, self._born, self.rng.randint(1, 2)))
        except Crash:
            self.tell("world", "a node died as it began", "")

    def _beat(self, node: SimNode) -> None:
        try:
            node.beat()
        except Crash:
            self._node_dies(node)

    def _leave(self, node: SimNode) -> None:
        try:
            if node.leave():
                self.tell(node.name, "left", "")
        except Crash:
            self._node_dies(node)

    def _turn(self, process: SimProcess) -> None:
        self.running.append(process)
        try:
            process.turn()
        except Crash as crash:
            self._process_dies(process, crash)
        finally:
            self.running.remove(process)

    def _process_dies(self, process: SimProcess, crash: Crash) -> None:
        process.is_dead = True
        node = process.node
        if node.is_dead:
            return
        if crash.node:
            self._node_dies(node)
            return
        self.tell(process.name, "dies", "")
        node.processes.remove(process)
        node.dead.append(process)

    def _node_dies(self, node: SimNode) -> None:
        self.tell(node.name, "dies", "")
        node.is_dead = True
        for process in node.processes:
            process.is_dead = True
        self.oracle.note_node_death(node.consumers)
        node.step.close()

    # -- being held up --------------------------------------------------------------------------

    def hold_up(self, actor: Any, *, with_node: bool) -> None:
        """Let others go on while `actor` stands in the middle of something."""
        if self.depth >= _DEPTH:
            return
        node = actor if isinstance(actor, SimNode) else actor.node
        with self._held_up(actor, node, with_node=with_node):
            if with_node and self.rng.random() < 0.5:
                CLOCK.advance(LEASE_S + 1)
            for _ in range(self.rng.choice((1, 5, 20, 40))):
                self.act()
        if actor.is_dead or node.is_dead:
            raise Crash(node=node.is_dead)

    @contextmanager
    def _held_up(self, actor: Any, node: SimNode, *, with_node: bool):
        held = [node] if with_node else [actor] if actor is not node else []
        before = [each.is_held_up for each in held]
        for each in held:
            each.is_held_up = True
        self.depth += 1
        calling, self.calling = self.calling, []
        try:
            yield
        finally:
            self.depth -= 1
            self.calling = calling
            for each, was in zip(held, before, strict=True):
                each.is_held_up = was
            self.tell(actor.name, "goes on", "")

    # -- asked by tasks and handles --------------------------------------------------------------

    def run_task(self, request: Request, dies_before: int = 0) -> None:
        """What each task does."""
        process = self.running[-1]
        run = self.oracle.note_run(
            request.id or "", request.retries, request.token, process.consumer, process.looked_at
        )
        if (request.task or "").endswith("follow"):
            self.oracle.follow_ups[request.id or ""] = (request.args[2], request.args[1])
        self.tell(process.name, f"runs {request.task}", f"{(request.id or '')[-4:]}")
        run.has_crashed = True
        if sum(each.has_crashed for each in self.oracle.runs[run.id]) <= dies_before:
            raise Crash
        self.director.on_run(process)
        run.has_crashed, run.has_ended = False, True

    def pause(self, seconds: float) -> None:
        """Let a pause of an outage go by."""
        CLOCK.advance(seconds)

    def tell(self, who: str, what: str, more: str) -> None:
        """Write the trace."""
        self.trace.append((CLOCK.monotonic(), who, what, more))

    def _claims(self, steps: Sequence[str]) -> Mapping[str, int]:
        _, call = self.calling[-1]
        if call.step not in steps:
            return {}
        return {delivery.receipt: delivery.token for delivery in call.args[0]}

    def _excuse(self, consumer: str) -> str | None:
        """Return why a run of `consumer` may be taken away now; None: there is no reason."""
        process = self.process_of[consumer]
        _, call = self.calling[-1]
        if process.is_dead:
            return SUPERVISED if call.step == "recover_consumer" else "its node is dead"
        if self.is_duplicating:
            return "its lease ran out at once"
        ends_at = self.oracle.lease_until[process.node.step.identity.node]
        if call.step == "recover_expired" and ends_at <= CLOCK.monotonic():
            return "its lease ran out"
        return None

    def story(self) -> str:
        """Return the trace as text."""
        lines = [
            f"{at:9.2f}  {who:10} {what} {more}".rstrip() for at, who, what, more in self.trace
        ]
        return "\n".join(lines)


class Ending(NamedTuple):
    """How a seed ended."""

    #: What is broken; None: nothing.
    broken: str | None
    #: All that happened; empty where nobody will read it.
    story: str


def simulate(seed: int, planted: Planted = NOTHING, *, is_verbose: bool = False) -> Ending:
    """Run one seed; `is_verbose` tells every call of a store, and the story of a good end too."""
    with planted.applied():
        world = World(seed, planted, is_verbose=is_verbose)
        broken = None
        try:
            world.run()
        except Exception as exc:
            where = "" if isinstance(exc, Violation) else f"\n{traceback.format_exc()}"
            broken = f"seed {seed}: {type(exc).__name__}: {exc}{where}"
        finally:
            for node in world.nodes:
                if not node.is_dead:
                    node.step.close()
    return Ending(broken, world.story() if broken or is_verbose else "")
