"""The worker's log: a handler on its own logger, each line once, with the task that logs."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from umbel import Umbel
from umbel.logs import get_task_logger
from umbel.worker.logs import LogOptions, set_up_logging

TASK_FORMAT = "task %(task_name)s[%(task_id)s] %(message)s"


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """Put the loggers back as they were."""
    ours, root = logging.getLogger("umbel"), logging.getLogger()
    before = (list(ours.handlers), ours.level, ours.propagate, list(root.handlers), root.level)
    yield
    for handler in {*ours.handlers, *root.handlers} - {*before[0], *before[3]}:
        handler.close()
    ours.handlers[:], ours.level, ours.propagate = before[:3]
    root.handlers[:], root.level = before[3:]
    logging.getLogger("umbel.task").setLevel(logging.NOTSET)


Read = Callable[[], str]


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Read:
    """Read what went to standard error since the last time."""
    return lambda: capsys.readouterr().err


def options(**changes: Any) -> LogOptions:
    settings: dict[str, Any] = {
        "level": "INFO",
        "format": "plain %(message)s",
        "task_format": TASK_FORMAT,
    }
    return LogOptions(**{**settings, **changes})


def test_each_line_comes_once_however_often_it_is_set_up(log: Read) -> None:
    for _ in range(3):
        set_up_logging(options())

    logging.getLogger("umbel.worker").info("one")

    assert log() == "plain one\n"


def test_each_line_comes_once_where_the_app_has_set_up_the_root_logger_later(
    log: Read,
) -> None:
    root = logging.getLogger()
    root.handlers.clear()
    set_up_logging(options())
    root.addHandler(logging.StreamHandler(sys.stderr))
    set_up_logging(options())

    logging.getLogger("umbel.worker").info("one")
    logging.getLogger("elsewhere").warning("theirs")

    assert log() == "plain one\ntheirs\n"


def test_the_root_logger_is_left_alone(log: Read) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)

    set_up_logging(options())

    assert (root.handlers, root.level) == before


def test_the_root_logger_is_taken_over_where_that_is_wanted(log: Read) -> None:
    logging.getLogger().addHandler(logging.StreamHandler(io.StringIO()))

    set_up_logging(options(hijack_root=True))
    logging.getLogger("elsewhere").info("theirs")
    logging.getLogger("umbel.worker").info("ours")

    assert log() == "plain theirs\nplain ours\n"


def test_without_a_level_nothing_is_touched() -> None:
    ours = logging.getLogger("umbel")
    before = (list(ours.handlers), ours.level, ours.propagate)

    set_up_logging(options(level=None))

    assert (list(ours.handlers), ours.level, ours.propagate) == before


def test_the_level_holds_back_what_is_below_it(log: Read) -> None:
    set_up_logging(options(level="WARNING"))
    logging.getLogger("umbel.worker").info("held back")
    logging.getLogger("umbel.worker").warning("shown")

    assert log() == "plain shown\n"


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    logging.getLogger().handlers.clear()
    file = tmp_path / "log"
    file.write_text("before\n")

    set_up_logging(options(file=str(file)))
    logging.getLogger("umbel.worker").info("grüße")

    assert file.read_text(encoding="utf-8") == "before\nplain grüße\n"


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_lines_of_a_task_tell_which_one_it_is(app: Umbel, log: Read, kind: str) -> None:
    logger = get_task_logger("tests")

    def log_it() -> None:
        logger.info("from inside")
        logging.getLogger("umbel.worker").info("from the worker, inside")

    async def alog_it() -> None:
        log_it()

    app.task(name="speaks")(log_it if kind == "plain" else alog_it)
    set_up_logging(options())

    with app.worker(pool="solo"):
        result = app.send_task("speaks")
        result.get(timeout=30)

    lines = log().splitlines()
    prefix = f"task speaks[{result.id}]"
    assert lines[:2] == [f"{prefix} from inside", f"{prefix} from the worker, inside"]
    assert lines[2].startswith(f"plain speaks[{result.id}] succeeded in")
    assert len(lines) == 3


def test_the_line_of_a_finished_task_carries_its_name_and_id(
    app: Umbel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "umbel")

    @app.task(name="fails")
    def fails() -> None:
        raise ValueError("no")

    @app.task(name="expected", throws=(ValueError,))
    def expected() -> None:
        raise ValueError("no")

    app.task(name="good")(lambda: 1)
    with app.worker(pool="solo"):
        results = {name: app.send_task(name) for name in ("good", "fails", "expected")}
        for result in results.values():
            result.get(timeout=30, propagate=False)

    records = [each for each in caplog.records if each.name == "umbel.task"]
    told = {each.task_name: (each.task_id, each.levelname) for each in records}  # type: ignore[attr-defined]
    assert told == {
        "good": (results["good"].id, "INFO"),
        "fails": (results["fails"].id, "ERROR"),
        "expected": (results["expected"].id, "INFO"),
    }
    (failed,) = [each for each in records if each.levelname == "ERROR"]
    assert "Traceback" in failed.getMessage()
