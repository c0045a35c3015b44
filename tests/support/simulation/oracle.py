"""What is seen from outside of umbel, and the invariants of the design over it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from simulation.stage import CLOCK, MAX_DELIVERIES
from umbel.builtin.memory.message_store import MessageStore
from umbel.builtin.memory.result_store import ResultStore
from umbel.outcomes import StoredResult
from umbel.states import is_final, order_in_rank

if TYPE_CHECKING:
    from umbel.builtin.memory.queues import Entry


#: Why a run may be taken away: its process died, and its supervisor saw to it.
SUPERVISED = "its process is dead"


class Violation(AssertionError):
    """An invariant doesn't hold."""


class Item(NamedTuple):
    """A task that the client sends."""

    n: int
    kind: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    #: Edges of its follow-ups: callbacks and chain steps, and errbacks.
    good: tuple[str, ...]
    bad: tuple[str, ...]


class Run:
    """One run of a task."""

    __slots__ = ("attempt", "consumer", "has_crashed", "has_ended", "id", "token")

    def __init__(self, id: str, attempt: int, token: int, consumer: str):
        self.id, self.attempt, self.token, self.consumer = id, attempt, token, consumer
        self.has_ended = self.has_crashed = False


class WatchedStore(MessageStore):
    """The queues of a memory broker, told on."""

    def __init__(self, oracle: Oracle):
        super().__init__()
        self.oracle = oracle

    def put(self, raw: bytes, *args: Any, **kwargs: Any) -> None:
        super().put(raw, *args, **kwargs)
        self.oracle.note_put(raw)

    def take(self, *args: Any, **kwargs: Any) -> list[Entry]:
        taken = super().take(*args, **kwargs)
        self.oracle.moment += 1
        for entry in taken:
            key = entry.once_key or entry.id
            self.oracle.handed_over[key, entry.token] = self.oracle.moment
        return taken

    def give_back(self, entry: Entry, *args: Any, **kwargs: Any) -> None:
        consumer = entry.consumer
        super().give_back(entry, *args, **kwargs)
        self.oracle.note_given_back(entry, consumer or "")

    def join(self, node: str, ends_at: float) -> None:
        super().join(node, ends_at)
        self.oracle.lease_until[node] = ends_at

    def renew(self, node: str, ends_at: float) -> bool:
        self.oracle.lease_until[node] = ends_at
        return super().renew(node, ends_at)

    def drop(self, entry: Entry) -> None:
        consumer = entry.consumer or ""
        super().drop(entry)
        self.oracle.note_done(entry, consumer)


class WatchedResults(ResultStore):
    """The results of a memory backend, and what they should be."""

    def __init__(self, oracle: Oracle):
        super().__init__()
        self.oracle = oracle

    def put(self, new: StoredResult, now: float) -> bool:
        self.oracle.note_result(new)
        return super().put(new, now)


class Oracle:
    """All that was seen of one world."""

    def __init__(self) -> None:
        self.store = WatchedStore(self)
        self.results = WatchedResults(self)
        #: By id: what the client knows to be sent, and what it doesn't know of.
        self.sent: dict[str, Item] = {}
        self.in_doubt: dict[str, Item] = {}
        self.runs: dict[str, list[Run]] = defaultdict(list)
        self.open_runs: dict[tuple[str, int], Run] = {}
        #: By once key: how often it came into the broker.
        self.puts: Counter[str] = Counter()
        self.follow_ups: dict[str, tuple[str, int]] = {}
        #: By id: how often a run of it was taken away, and may come again.
        self.taken: Counter[str] = Counter()
        #: By once key and token: why it was taken from its holder before it ran; None: by him.
        self.given_back: dict[tuple[str, int], str | None] = {}
        #: By receipt: how often it was given back after it had killed its process.
        self.strikes: Counter[str] = Counter()
        #: By node: the monotonic time that its lease ends at.
        self.lease_until: dict[str, float] = {}
        #: By id: the consumer that acknowledged it last.
        self.acked_by: dict[str, str] = {}
        #: Acknowledged early, and lost with its machine.
        self.lost_early: set[str] = set()
        #: Acknowledged by a machine that died later: what follows may not have been sent, where
        #: the acknowledgement was early.
        self.orphaned: set[str] = set()
        self.best: dict[str, StoredResult] = {}
        self.violations: list[str] = []
        #: By receipt: the token by which the call under way claims it, if it is one of these.
        self.claims: Callable[[Sequence[str]], Mapping[str, int]] = lambda _steps: {}
        #: Counts what happens.
        self.moment = 0
        #: By id: the attempt of its first final result, and when that was stored.
        self.final: dict[str, tuple[int, int]] = {}
        #: By once key and token: when it was handed over.
        self.handed_over: dict[tuple[str, int], int] = {}
        #: What the world says of a consumer whose run is given back: why it may be, or None.
        self.excuse: Callable[[str], str | None] = lambda _consumer: "not known"

    def broken(self, what: str) -> NoReturn:
        """Note that an invariant is broken; the code under test may catch what is raised."""
        self.violations.append(what)
        raise Violation(what)

    # -- what is seen ---------------------------------------------------------------------------

    def note_put(self, raw: bytes) -> None:
        task_id, task, headers, *_ = json.loads(raw)
        attempt = headers.get("retries") or 0
        key = f"{task_id}/{attempt}"
        self.puts[key] += 1
        if self.puts[key] > 1:
            self.broken(f"{task} {key} was put into the broker {self.puts[key]} times")

    def note_run(self, id: str, attempt: int, token: int, consumer: str, looked_at: int) -> Run:
        """Note a run; `looked_at`: when its process last was told of results."""
        key = f"{id}/{attempt}" if attempt else id
        run = Run(id, attempt, token, consumer)
        for other in self.runs[id]:
            if (other.attempt, other.token) == (attempt, token):
                self.broken(f"{id} ran twice from one delivery (token {token})")
        final = self.final.get(id)
        handed_over = self.handed_over.get((key, token), 0)
        if final is not None and final[0] >= attempt and looked_at > handed_over > final[1]:
            self.broken(f"{id} was finished when it was handed over to {consumer}, and runs again")
        if (key, token) in self.given_back:
            if self.given_back[key, token] is None:
                self.broken(f"{id} was given back by {consumer}, which runs it all the same")
            self.taken[id] += 1
        self.runs[id].append(run)
        self.open_runs[key, token] = run
        return run

    def note_given_back(self, entry: Entry, consumer: str) -> None:
        key = (entry.once_key or entry.id, entry.token)
        token = self.claims(("nack",)).get(entry.receipt, entry.token)
        if token != entry.token:
            self.broken(f"{entry.id} was given back by token {token}, and held by {entry.token}")
        run = self.open_runs.get(key)
        why = self.excuse(consumer)
        if run is None or run.consumer != consumer:
            self.given_back[key] = why
            return
        if why is None:
            self.broken(f"{entry.id} was given back, and runs or ran in {consumer}, which lives")
        self.taken[entry.id] += 1
        if why == SUPERVISED and run.has_crashed:
            self.strikes[entry.receipt] += 1
            if self.strikes[entry.receipt] >= MAX_DELIVERIES:
                self.broken(f"{entry.id} has killed {self.strikes[entry.receipt]} processes")

    def note_node_death(self, consumers: set[str]) -> None:
        """Take note of what was acknowledged early there, and of which nothing is known."""
        for task_id, consumer in self.acked_by.items():
            if consumer not in consumers:
                continue
            self.orphaned.add(task_id)
            best = self.best.get(task_id)
            if best is None or not is_final(best.state):
                self.lost_early.add(task_id)

    def note_done(self, entry: Entry, consumer: str) -> None:
        self.acked_by[entry.id] = consumer
        token = self.claims(("ack", "settle")).get(entry.receipt, entry.token)
        if token != entry.token:
            self.broken(f"{entry.id} was acknowledged by token {token}, and held by {entry.token}")

    def note_result(self, new: StoredResult) -> None:
        self.moment += 1
        if is_final(new.state):
            self.final.setdefault(new.task_id, (new.retries, self.moment))
        old = self.best.get(new.task_id)
        if old is None or _order(new) >= _order(old):
            self.best[new.task_id] = new

    # -- what must hold at the end --------------------------------------------------------------

    def check(self) -> None:
        """Check all invariants. Raises: Violation."""
        self._check_queues()
        self._check_runs()
        dead = {letter.entry.id: letter for letter in self.store.dead(None)}
        for task_id, item in self.sent.items():
            self._check_item(task_id, item, task_id in dead)
        for task_id, letter in dead.items():
            item = self.sent.get(task_id)
            if item is not None and item.kind == "early":
                continue  # one whose fate wasn't known when its process died
            if not letter.reason or self._crashes(task_id) < MAX_DELIVERIES:
                raise Violation(
                    f"{task_id} is a dead letter after {self._crashes(task_id)} crashes"
                )

    def _crashes(self, task_id: str) -> int:
        return sum(run.has_crashed for run in self.runs[task_id])

    def _check_queues(self) -> None:
        now = CLOCK.time()
        for name in self.store.names():
            stats = self.store.stats(name, now)
            if stats.ready or stats.delayed or stats.held:
                raise Violation(f"queue {name} isn't empty at the end: {stats}")

    def _check_runs(self) -> None:
        for task_id, runs in self.runs.items():
            attempts = len({run.attempt for run in runs})
            if len(runs) > attempts + self.taken[task_id]:
                raise Violation(
                    f"{task_id} ran {len(runs)} times in {attempts} attempts, with {self.taken[task_id]} "
                    "taken away"
                )

    def _check_item(self, task_id: str, item: Item, is_dead: bool) -> None:
        runs = self.runs[task_id]
        if item.kind == "early":
            for attempt in {run.attempt for run in runs}:
                if sum(run.attempt == attempt for run in runs) > 1:
                    raise Violation(f"{task_id} is acknowledged early, and ran {len(runs)} times")
            if task_id in self.lost_early:
                return
        if item.kind == "quiet":
            if not is_dead and not any(run.has_ended for run in runs):
                raise Violation(f"{task_id} (quiet) never ran to its end: {len(runs)} runs")
            return
        self._check_result(task_id, item, is_dead)

    def _check_result(self, task_id: str, item: Item, is_dead: bool) -> None:
        stored = self.results.get([task_id], CLOCK.monotonic()).get(task_id)
        if stored is None or not is_final(stored.state):
            raise Violation(f"{task_id} ({item.kind}) has no final result: {stored}")
        if _order(stored) < _order(self.best[task_id]):
            raise Violation(f"{task_id}: a later result was overwritten by {stored}")
        document = json.loads(stored.body)
        if stored.state == "FAILURE":
            error = document["result"]["exc_type"]
            if error == "WorkerLostError":
                self._check_lost(task_id, item, is_dead)
            elif (item.kind, error) != ("fail", "ValueError"):
                raise Violation(f"{task_id} ({item.kind}) failed: {document['result']}")
        else:
            expected = [item.kind, item.n, document["result"][2]]
            if stored.state != "SUCCESS" or document["result"] != expected:
                raise Violation(f"{task_id} ({item.kind}) has a wrong result: {stored}")
        # What never ran, its acknowledgement having been lost along with its lease, may be with
        # somebody else: then nothing but its result tells of it.
        is_early = item.kind == "early" and (task_id in self.orphaned or not self.runs[task_id])
        if not is_early:
            self._check_follow_ups(task_id, item, stored.state)

    def _check_lost(self, task_id: str, item: Item, is_dead: bool) -> None:
        is_enough = item.kind == "early" or self._crashes(task_id) >= MAX_DELIVERIES
        if not is_enough or (not is_dead and item.kind != "early"):
            raise Violation(
                f"{task_id} ({item.kind}) was given up after {self._crashes(task_id)} crashes, "
                f"{'a' if is_dead else 'no'} dead letter"
            )

    def _check_follow_ups(self, task_id: str, item: Item, state: str) -> None:
        found = {edge: each for each, (edge, n) in self.follow_ups.items() if n == item.n}
        edges = [edge for edge, n in self.follow_ups.values() if n == item.n]
        wanted = list(item.good if state == "SUCCESS" else item.bad)
        if state == "SUCCESS" and "step1" in wanted and not self._succeeded(found.get("step0")):
            wanted.remove("step1")
        if sorted(edges) != sorted(wanted):
            raise Violation(
                f"{task_id} ({item.kind}) is {state}; ran after it: {edges}, not {wanted}"
            )
        for edge, each in found.items():
            stored = self.best.get(each)
            if stored is None or not is_final(stored.state):
                raise Violation(f"{each} ({edge} of {task_id}) has no final result: {stored}")

    def _succeeded(self, task_id: str | None) -> bool:
        stored = self.best.get(task_id or "")
        return stored is not None and stored.state == "SUCCESS"


def _order(result: StoredResult) -> tuple[Any, ...]:
    return (*result.rank, order_in_rank(result.state))
