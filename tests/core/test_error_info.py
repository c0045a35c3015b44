from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import ModuleType
from typing import Self

import msgspec
import pytest

from umbel import errors
from umbel.builtin.json_serializer import JsonSerializer
from umbel.error_info import MAX_ARGUMENTS, MAX_TEXT, error_info, rebuild
from umbel.errors import RemoteTaskError
from umbel.outcomes import ErrorInfo


class AppError(Exception):
    class Inner(Exception):
        pass


class KeywordOnlyError(Exception):
    def __init__(self, *, code: int) -> None:
        self.code = code
        super().__init__(f"code {code}")


class WordedError(Exception):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no {name}")


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class BrokenError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class OddArgsError(Exception):
    @property
    def args(self) -> tuple:  # type: ignore[override]
        raise RuntimeError("no args")


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:
        return caught


def there_and_back(exc: BaseException, **how: object) -> BaseException:
    return rebuild(error_info(exc), **how)  # type: ignore[arg-type]


class TestErrorInfo:
    def test_has_celerys_fields(self) -> None:
        info = error_info(ValueError("bad", 1), with_traceback=False)

        assert info == ErrorInfo("ValueError", "builtins", ["bad", 1], None, "ValueError('bad', 1)")

    def test_the_traceback_is_text(self) -> None:
        info = error_info(raised(ValueError("bad")))

        assert info.traceback is not None
        assert info.traceback.startswith("Traceback (most recent call last):\n")
        assert info.traceback.endswith("ValueError: bad\n")
        assert "in raised" in info.traceback

    def test_an_exception_that_was_never_raised_has_one_line(self) -> None:
        assert error_info(ValueError("bad")).traceback == "ValueError: bad\n"

    def test_causes_are_in_the_traceback(self) -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError as first:
                raise ValueError("second") from first
        except ValueError as second:
            text = error_info(second).traceback

        assert text is not None
        assert "KeyError: 'first'" in text
        assert "direct cause" in text

    def test_members_of_a_group_are_in_the_traceback(self) -> None:
        text = error_info(ExceptionGroup("two", [KeyError("a"), ValueError("b")])).traceback

        assert text is not None
        assert "ValueError: b" in text

    def test_nested_classes_go_by_their_qualified_name(self) -> None:
        assert error_info(AppError.Inner()).exc_type == "AppError.Inner"

    @pytest.mark.parametrize(
        "given, kept",
        [
            ((1, 2.5, True, None, "é"), [1, 2.5, True, None, "é"]),
            (((1, (2,)),), [[1, [2]]]),
            (({"a": [1]},), [{"a": [1]}]),
            ((b"\xff",), [b"\xff"]),
            ((Decimal("1.5"), datetime(2020, 1, 1, tzinfo=UTC)),) * 2,
            (({1: 2},), ["{1: 2}"]),
            (({1},), ["{1}"]),
            ((float("inf"),), ["inf"]),
            ((ValueError("x"),), ["ValueError('x')"]),
            (({"__type__": "a", "__value__": 1},), ["{'__type__': 'a', '__value__': 1}"]),
        ],
    )
    def test_what_json_lacks_is_its_repr(self, given: tuple, kept: list) -> None:
        assert error_info(Exception(*given)).exc_message == list(kept)

    def test_a_huge_int_has_a_text_that_says_so(self) -> None:
        (text,) = error_info(Exception(10**6000)).exc_message

        assert "int" in text

    @pytest.mark.parametrize(
        "exc", [BrokenError("x"), BrokenError(BrokenError("y")), OddArgsError("x")]
    )
    def test_broken_exceptions_are_described_all_the_same(self, exc: Exception) -> None:
        info = error_info(exc)

        assert info.exc_type == type(exc).__name__
        assert info.traceback

    def test_lists_that_hold_themselves_end(self) -> None:
        loop: list = []
        loop.append(loop)

        assert len(repr(error_info(Exception(loop)).exc_message)) < 1000

    def test_all_of_it_can_be_encoded(self) -> None:
        info = error_info(Exception("\ud800", {"\udc80": 1}, [object()], b"\xff", 10**5000))

        assert JsonSerializer().dumps(info.exc_message)
        assert msgspec.json.encode(info)


class TestBounds:
    def test_a_long_traceback_keeps_head_and_tail(self) -> None:
        text = error_info(raised(ValueError("a" * 1_000_000 + "z"))).traceback

        assert text is not None
        assert len(text) < MAX_TEXT + 100
        assert text.startswith("Traceback")
        assert text.endswith("aaaz\n")
        assert "characters left out" in text

    def test_long_arguments_are_cut(self) -> None:
        info = error_info(Exception("x" * 1_000_000, list(range(1_000_000)), ["y" * 9_999] * 999))

        assert len(repr(info)) < 2 * MAX_ARGUMENTS

    def test_a_long_repr_is_cut(self) -> None:
        assert len(error_info(ValueError("x" * 1_000_000)).summary) < 1200


class TestSecrets:
    def test_passwords_of_urls_are_masked_everywhere(self) -> None:
        exc = raised(ValueError("no redis://me:hunter2@host/0", ["amqp://a:hunter2@b"]))

        assert "hunter2" not in repr(error_info(exc))

    @pytest.mark.parametrize("before", [MAX_TEXT // 2 - 20, 2 * MAX_TEXT - 20, 10])
    def test_not_where_a_text_is_cut_either(self, before: int) -> None:
        text = "x " * (before // 2) + "redis://me:hunter2hunter2hunter2@host " + "y " * MAX_TEXT * 3

        assert "hunter2" not in repr(error_info(ValueError(text)))


class TestLeaks:
    def test_no_frame_is_kept_alive(self) -> None:
        class Big:
            pass

        def fail() -> weakref.ref:
            big = Big()
            seen = weakref.ref(big)
            try:
                raise ValueError("bad")
            except ValueError as exc:
                infos.append(error_info(exc))
            return seen

        infos: list[ErrorInfo] = []
        gc.collect()
        gc.disable()
        try:
            assert fail()() is None
        finally:
            gc.enable()
        assert infos


class TestRebuild:
    @pytest.mark.parametrize(
        "exc",
        [
            ValueError("bad", 1),
            KeyError("a"),
            FileNotFoundError(2, "no such file"),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
            AppError("x"),
            AppError.Inner("x"),
            errors.UnknownTaskError("proj.unknown"),
            errors.SoftTimeLimitExceeded(),
            errors.TimeLimitExceeded(1),
            errors.WorkerLostError("signal 9"),
            errors.TaskRevokedError("revoked"),
            errors.MaxRetriesExceededError("too many"),
            errors.ChordError("a part failed"),
            errors.ResultTimeoutError("late"),
            errors.EncodeError("no"),
            errors.TaskArgumentsError("two too many"),
        ],
        ids=lambda exc: type(exc).__name__,
    )
    def test_comes_back_as_what_it_was(self, exc: Exception) -> None:
        back = there_and_back(exc)

        assert type(back) is type(exc)
        assert back.args == exc.args
        assert str(back) == str(exc)

    @pytest.mark.parametrize(
        "exc, wire",
        [
            (errors.UnknownTaskError("x"), ("NotRegistered", "celery.exceptions")),
            (errors.TaskRevokedError("x"), ("TaskRevokedError", "celery.exceptions")),
            (errors.ChordError("x"), ("ChordError", "celery.exceptions")),
            (errors.TimeLimitExceeded(1), ("TimeLimitExceeded", "billiard.exceptions")),
            (errors.SoftTimeLimitExceeded(), ("SoftTimeLimitExceeded", "billiard.exceptions")),
            (errors.WorkerLostError("x"), ("WorkerLostError", "billiard.exceptions")),
            (errors.EncodeError("x"), ("EncodeError", "kombu.exceptions")),
            (errors.TaskArgumentsError("x"), ("TaskArgumentsError", "umbel.errors")),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_our_errors_have_celerys_names_on_the_wire(
        self, exc: Exception, wire: tuple[str, str]
    ) -> None:
        info = error_info(exc)

        assert (info.exc_type, info.exc_module) == wire

    def test_celery_names_are_ours_though_celery_is_not_there(self) -> None:
        back = rebuild(ErrorInfo("NotRegistered", "celery.exceptions", ["proj.unknown"]))

        assert type(back) is errors.UnknownTaskError

    def test_a_constructor_that_takes_no_args_is_gone_round(self) -> None:
        back = there_and_back(KeywordOnlyError(code=5))

        assert type(back) is KeywordOnlyError
        assert str(back) == "code 5"

    def test_a_message_is_not_worded_twice(self) -> None:
        back = there_and_back(WordedError("bread"))

        assert (type(back), str(back)) == (WordedError, "no bread")

    def test_a_frozen_exception_can_be_rebuilt(self) -> None:
        back = there_and_back(raised(FrozenError(5)))

        assert type(back) is FrozenError
        assert back.remote_traceback  # type: ignore[attr-defined]

    def test_the_remote_traceback_is_seen(self) -> None:
        info = error_info(raised(ValueError("bad")))

        back = rebuild(info)

        assert back.remote_traceback == info.traceback  # type: ignore[attr-defined]
        assert "in raised" in back.__notes__[0]

    def test_without_a_traceback_there_is_no_note(self) -> None:
        back = rebuild(ErrorInfo("ValueError", "builtins", ["bad"]))

        assert back.remote_traceback is None  # type: ignore[attr-defined]
        assert not hasattr(back, "__notes__")

    def test_an_error_that_was_passed_on_keeps_its_name(self) -> None:
        stand_in = RemoteTaskError("FarError", "far.away", ["x", 1])

        info = error_info(stand_in)

        assert (info.exc_type, info.exc_module, info.exc_message) == (
            "FarError",
            "far.away",
            ["x", 1],
        )

    def test_a_group_has_a_stand_in(self) -> None:
        back = there_and_back(ExceptionGroup("two", [KeyError("a")]))

        assert isinstance(back, RemoteTaskError)


EVIL_MODULE = "tests_error_info_evil"
ran: list[str] = []


class Runs:
    def __init__(self, *args: object) -> None:
        ran.append("class")


class Lazy(ModuleType):
    def __getattr__(self, name: str) -> object:
        ran.append("getattr")
        return AppError


@pytest.fixture
def evil() -> Iterator[ModuleType]:
    module = Lazy(EVIL_MODULE)
    module.Runs = Runs  # type: ignore[attr-defined]
    module.run = lambda *args: ran.append("function")  # type: ignore[attr-defined]
    module.Meta = type("Meta", (type,), {})  # type: ignore[attr-defined]
    module.obj = Runs()  # type: ignore[attr-defined]
    ran.clear()
    sys.modules[EVIL_MODULE] = module
    yield module
    del sys.modules[EVIL_MODULE]


class TestSafety:
    def test_nothing_is_imported(self) -> None:
        assert "this" not in sys.modules

        back = rebuild(ErrorInfo("Zen", "this", ["x"]))

        assert isinstance(back, RemoteTaskError)
        assert (back.exc_type, back.exc_module, back.exc_args) == ("Zen", "this", ("x",))
        assert "this" not in sys.modules

    @pytest.mark.parametrize(
        "name, module",
        [
            ("system", "os"),
            ("eval", "builtins"),
            ("Popen", "subprocess"),
            ("type", "builtins"),
            ("object", "builtins"),
            ("Runs", EVIL_MODULE),
            ("run", EVIL_MODULE),
            ("Meta", EVIL_MODULE),
            ("obj", EVIL_MODULE),
            ("obj.__class__", EVIL_MODULE),
            ("Absent", EVIL_MODULE),
            ("ValueError.__class__", "builtins"),
            ("ValueError.__init__", "builtins"),
            ("", "builtins"),
            (".", "builtins"),
            ("path.exists", "os"),
            ("SystemExit", "builtins"),
            ("KeyboardInterrupt", "builtins"),
            ("GeneratorExit", "builtins"),
            ("StopIteration", "builtins"),
            ("StopAsyncIteration", "builtins"),
            ("CancelledError", "asyncio.exceptions"),
            ("Retry", "celery.exceptions"),
            ("Reject", "celery.exceptions"),
            ("Ignore", "umbel.errors"),
            ("ValueError", "nowhere"),
            ("TestSafety.test_nothing_is_imported.<locals>.X", __name__),
        ],
    )
    def test_only_exception_classes_are_called(
        self, name: str, module: str, evil: ModuleType
    ) -> None:
        back = rebuild(ErrorInfo(name, module, ["echo x"]))

        assert type(back) is RemoteTaskError
        assert back.exc_type == name
        assert ran == []

    def test_a_missing_module_means_builtins(self) -> None:
        assert type(rebuild(ErrorInfo("ValueError", None, ["x"]))) is ValueError

    def test_a_constructor_that_fails_in_every_way_has_a_stand_in(self) -> None:
        class HardError(Exception):
            def __new__(cls, *args: object) -> Self:
                raise RuntimeError("never")

        module = ModuleType(EVIL_MODULE)
        module.HardError = HardError  # type: ignore[attr-defined]
        sys.modules[EVIL_MODULE] = module
        try:
            back = rebuild(ErrorInfo("HardError", EVIL_MODULE, ["x"]))
        finally:
            del sys.modules[EVIL_MODULE]

        assert isinstance(back, RemoteTaskError)


class TestAllowed:
    def info(self) -> ErrorInfo:
        return error_info(AppError("x"))

    @pytest.mark.parametrize(
        "allowed",
        [
            (),
            [AppError],
            [Exception],
            [f"{__name__}.*"],
            f"{__name__}.AppError",
            [f"{__name__}.AppError"],
            lambda cls: cls is AppError,
        ],
    )
    def test_allowed(self, allowed: object) -> None:
        assert type(rebuild(self.info(), allowed=allowed)) is AppError  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "allowed",
        [
            [LookupError],
            ["other.*"],
            "other.*",
            lambda cls: False,
            lambda cls: 1 / 0,
            [None],
        ],
    )
    def test_not_allowed(self, allowed: object) -> None:
        assert type(rebuild(self.info(), allowed=allowed)) is RemoteTaskError  # type: ignore[arg-type]

    def test_pythons_and_umbels_own_always_are(self) -> None:
        assert type(there_and_back(ValueError("x"), allowed=["proj.*"])) is ValueError
        assert (
            type(there_and_back(errors.TimeLimitExceeded(1), allowed=["proj.*"]))
            is errors.TimeLimitExceeded
        )
