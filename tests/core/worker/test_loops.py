from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from umbel.worker import loops


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    loops.close(made)


def test_a_coroutine_runs_to_its_end_whatever_stops_the_loop(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def work() -> str:
        for _ in range(3):
            asyncio.get_running_loop().stop()
            await asyncio.sleep(0)
        return "done"

    assert loops.run_to_end(loop, work()) == "done"


def test_what_the_coroutine_raises_is_raised(loop: asyncio.AbstractEventLoop) -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        loops.run_to_end(loop, work())


def test_a_loop_that_is_stopped_for_ever_is_an_error(loop: asyncio.AbstractEventLoop) -> None:
    def stop_again() -> None:
        loop.stop()
        loop.call_soon(stop_again)

    loop.call_soon(stop_again)

    with pytest.raises(RuntimeError, match="again and again"):
        loops.run_to_end(loop, asyncio.sleep(60))


def test_closing_cancels_what_is_left_and_waits_for_it_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loops, "_CLOSE_S", 0.05)
    ended: list[str] = []
    loop = asyncio.new_event_loop()

    async def tidy() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("tidy")

    async def stubborn() -> None:
        while not ended or len(ended) < 50:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append("stubborn")

    async def main() -> None:
        main.left = [asyncio.ensure_future(tidy()), asyncio.ensure_future(stubborn())]  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    loops.run_to_end(loop, main())
    thread = threading.Thread(target=loops.close, args=(loop,))
    thread.start()
    thread.join(20)

    assert loop.is_closed()
    assert {"tidy", "stubborn"} <= set(ended)
    loops.close(loop)
    for task in main.left:  # type: ignore[attr-defined]
        task._log_destroy_pending = False
