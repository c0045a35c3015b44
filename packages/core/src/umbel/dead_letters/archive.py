"""The dead letters of an app's broker: find them, send them again, drop them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Unpack

from umbel.dead_letters.bodies import Arguments, BodyReader
from umbel.dead_letters.pages import Walk
from umbel.dead_letters.replays import Edit, edited, replayed
from umbel.dead_letters.reset import reset_results
from umbel.dead_letters.selection import LetterFilter, selection
from umbel.errors import DeadLetterError
from umbel.listed import Named
from umbel.messages import DeadLetter, Malformed, Message
from umbel.off_loop import in_thread
from umbel.rates import parse_rate
from umbel.signatures import Signature

if TYPE_CHECKING:
    from umbel.clock import Clock
    from umbel.interfaces.backend import Backend
    from umbel.interfaces.broker import Broker
    from umbel.interfaces.serializer import Serializer
    from umbel.settings import Settings

logger = logging.getLogger("umbel.dead_letters")

#: Letters that `afind` returns, unless told otherwise.
_LIMIT = 100


class Keeper(Protocol):
    """What dead letters need of an app."""

    @property
    def conf(self) -> Settings:
        """The app's settings."""

    @property
    def clock(self) -> Clock:
        """Where to read the time."""

    @property
    def broker(self) -> Broker:
        """This process's handle of the broker."""

    @property
    def backend(self) -> Backend | None:
        """This process's handle of the result backend; None where results are disabled."""

    def serializer(self, name_or_content_type: str) -> Serializer:
        """Return a serializer."""

    def message_for(self, signature: Signature[Any]) -> Message:
        """Build the message of a call."""


class ReplayReport(NamedTuple):
    """What a replay did, or would do."""

    #: How many were sent again.
    replayed: int = 0
    #: How many weren't there any more when it was their turn: others were quicker.
    gone: int = 0
    #: How many can't be read, so that they can't be sent as they are.
    unreadable: int = 0


class DeadLetters:
    """The dead letters of one app's broker. At ``app.dead_letters``.

    A letter is named by its task's id, by the first characters of it, or by its receipt. All goes
    page by page: any number of letters may lie there, and others may bury, replay and drop some
    at the same time.
    """

    def __init__(self, app: Keeper, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._app, self._sleep = app, sleep

    def find(
        self, *, limit: int | None = None, **given: Unpack[LetterFilter]
    ) -> Iterator[DeadLetter]:
        """Go through the letters that fit, newest first. See `LetterFilter`.

        Args:
            limit: How many at most; None: all.
            **given: Which ones.
        Raises: CapabilityError: the broker keeps none.
        """
        chosen = selection(self._app.clock.time(), given)
        pages = Walk(self._app.broker, chosen.queue)
        return islice((one for page in pages for one in page if chosen.fits(one)), limit)

    def __iter__(self) -> Iterator[DeadLetter]:
        """Go through all letters, newest first."""
        return self.find()

    def count(self, **given: Unpack[LetterFilter]) -> int:
        """Return how many letters fit."""
        return sum(1 for _ in self.find(**given))

    def get(self, name: str) -> DeadLetter:
        """Return one letter. Raises: DeadLetterError: there is none of that name, or several."""
        return self._named([name])[0]

    def arguments(self, letter: DeadLetter) -> Arguments:
        """Return what `letter` calls its task with, decoded as a worker would.

        Raises: DecodeError: it can't be read, or a worker wouldn't.
        """
        if isinstance(letter.message, Malformed):
            raise DeadLetterError(f"it can't be read: {letter.message.reason}")
        return self._reader().read(letter.message)

    def replay(
        self,
        names: str | Iterable[str] | None = None,
        *,
        task: str | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        where: LetterFilter | None = None,
        rate: str | float | None = None,
        dry_run: bool = False,
    ) -> ReplayReport:
        """Send letters again, each once: as the message goes to its queue, the letter is gone.

        The task keeps its id, and its new result takes the place of the old one. Its retries are
        counted from 0, and it begins at once: eta and expires are taken away.

        Args:
            names: Which letters; None: all that were there as the call began and fit `where`.
            task: Send one letter to another task.
            args: Send one letter with other arguments.
            kwargs: Send one letter with other keyword arguments.
            where: A filter, where no names are given.
            rate: At most so many, as ``"10/s"`` or a number a second; None: as fast as can be.
            dry_run: Only count.
        Raises:
            ConfigError: `rate` is no rate.
            DeadLetterError: a name stands for none, or for several letters; or a named one can't
                be read, and isn't edited. Nothing was sent.
            CapabilityError: the broker keeps no dead letters.
            BrokerUnavailableError: some may have been sent.
        """
        pace = _Pace(self, parse_rate(rate))
        edit = Edit(task, args, kwargs)
        if names is None:
            if not edit.is_empty:
                raise DeadLetterError("only one letter at a time can be edited; name it")
            return self._replay_all(where or {}, pace, dry_run=dry_run)
        letters = self._named([names] if isinstance(names, str) else list(names))
        if not edit.is_empty and len(letters) != 1:
            raise DeadLetterError(f"only one letter at a time can be edited, not {len(letters)}")
        messages = [self._message(letter, edit) for letter in letters]
        if dry_run:
            return ReplayReport(len(letters))
        receipts = [letter.receipt for letter in letters]
        sent, gone = self._send(list(zip(receipts, messages, strict=True)), pace)
        return ReplayReport(len(sent), gone)

    def drop(
        self, names: str | Iterable[str] | None = None, *, where: LetterFilter | None = None
    ) -> int:
        """Drop letters for good; returns how many.

        Args:
            names: Which ones; None: all that were there as the call began and fit `where`.
            where: A filter, where no names are given.
        Raises: DeadLetterError, CapabilityError, BrokerUnavailableError as `replay`.
        """
        broker = self._app.broker
        if names is not None:
            letters = self._named([names] if isinstance(names, str) else list(names))
            return broker.drop_dead([letter.receipt for letter in letters])
        dropped = 0
        for walk, letters in self._pages_until_now(where or {}):
            receipts = [letter.receipt for letter in letters]
            dropped += broker.drop_dead(receipts)
            walk.removed(receipts)
        return dropped

    # -- from coroutines ------------------------------------------------------------------------

    async def afind(
        self, *, limit: int | None = _LIMIT, **given: Unpack[LetterFilter]
    ) -> list[DeadLetter]:
        """Return what `find` finds, as a list, without blocking the event loop."""
        return await in_thread(lambda: list(self.find(limit=limit, **given)))

    async def acount(self, **given: Unpack[LetterFilter]) -> int:
        """Count as `count` does, without blocking the event loop."""
        return await in_thread(lambda: self.count(**given))

    async def aget(self, name: str) -> DeadLetter:
        """Return what `get` returns, without blocking the event loop."""
        return await in_thread(self.get, name)

    async def areplay(
        self,
        names: str | Iterable[str] | None = None,
        *,
        task: str | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        where: LetterFilter | None = None,
        rate: str | float | None = None,
        dry_run: bool = False,
    ) -> ReplayReport:
        """Replay as `replay` does, without blocking the event loop."""
        return await in_thread(
            self.replay,
            names,
            task=task,
            args=args,
            kwargs=kwargs,
            where=where,
            rate=rate,
            dry_run=dry_run,
        )

    async def adrop(
        self, names: str | Iterable[str] | None = None, *, where: LetterFilter | None = None
    ) -> int:
        """Drop as `drop` does, without blocking the event loop."""
        return await in_thread(self.drop, names, where=where)

    # -- inside ---------------------------------------------------------------------------------

    def _replay_all(self, where: LetterFilter, pace: _Pace, *, dry_run: bool) -> ReplayReport:
        count = gone = unreadable = 0
        # What dies again at once, under a clock that runs behind, isn't sent without end.
        ids: set[str] = set()
        for walk, letters in self._pages_until_now(where):
            sendable = [
                (letter.receipt, replayed(letter))
                for letter in letters
                if not isinstance(letter.message, Malformed) and letter.message.id not in ids
            ]
            unreadable += sum(isinstance(letter.message, Malformed) for letter in letters)
            if dry_run:
                count += len(sendable)
                continue
            sent, missed = self._send(sendable, pace)
            ids.update(message.id for message in sent)
            count, gone = count + len(sent), gone + missed
            walk.removed(receipt for receipt, _ in sendable)
        return ReplayReport(count, gone, unreadable)

    def _send(
        self, replays: Sequence[tuple[str, Message]], pace: _Pace
    ) -> tuple[list[Message], int]:
        """Replay these; return what was sent, and how many weren't there any more."""
        sent: list[Message] = []
        for batch in pace.batches(replays):
            gone = set(self._app.broker.replay(batch))
            now_sent = [message for receipt, message in batch if receipt not in gone]
            reset_results(self._app, now_sent)
            sent += now_sent
        return sent, len(replays) - len(sent)

    def _pages_until_now(self, where: LetterFilter) -> Iterator[tuple[Walk, list[DeadLetter]]]:
        """Go through the pages of what fits and has died by now, newest first."""
        now = self._app.clock.time()
        chosen = selection(now, where)
        walk = Walk(self._app.broker, chosen.queue)
        for page in walk:
            letters = [one for one in page if one.died_at <= now and chosen.fits(one)]
            if letters:
                yield walk, letters

    def _named(self, names: Sequence[str]) -> list[DeadLetter]:
        named: Named[DeadLetter] = Named(names, "dead letter", DeadLetterError)
        for letter in self:
            named.offer(letter)
        return named.chosen()

    def _message(self, letter: DeadLetter, edit: Edit) -> Message:
        """Return what replays `letter`, edited."""
        if not isinstance(letter.message, Malformed):
            message = replayed(letter)
            if edit.is_empty:
                return message
            fallback = self._app.serializer(self._app.conf.task_serializer)
            return edited(message, edit, self._reader(), fallback)
        if edit.task is None:
            return replayed(letter)  # which says what is missing
        options = {"queue": letter.queue}
        call: Signature[Any] = Signature(
            task=edit.task,
            args=tuple(edit.args or ()),
            kwargs=dict(edit.kwargs or {}),
            options=options,
        )
        return self._app.message_for(call)

    def _reader(self) -> BodyReader:
        conf = self._app.conf
        return BodyReader(conf.accept_content, conf.task_message_max_bytes, self._app.serializer)

    def _now(self) -> float:
        return self._app.clock.monotonic()


class _Pace:
    """Keeps replays to a rate, over all batches of one call."""

    def __init__(self, of: DeadLetters, rate: float) -> None:
        """Take `rate` letters a second; 0.0: any number."""
        self._now, self._sleep, self._rate = of._now, of._sleep, rate  # noqa: SLF001 - its own
        self._begun_at = self._now()
        self._sent = 0

    def batches(
        self, replays: Sequence[tuple[str, Message]]
    ) -> Iterator[Sequence[tuple[str, Message]]]:
        """Return `replays` in batches of about a tenth of a second, each in its time."""
        size = max(1, int(self._rate / 10)) if self._rate else max(1, len(replays))
        for start in range(0, len(replays), size):
            if self._rate:
                wait_s = self._begun_at + self._sent / self._rate - self._now()
                if wait_s > 0:
                    self._sleep(wait_s)
            batch = replays[start : start + size]
            yield batch
            self._sent += len(batch)
