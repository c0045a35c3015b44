"""Messages as a broken or malicious sender might leave them in an SQLite queue, from a seed."""

from __future__ import annotations

import bz2
import json
import lzma
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from queue_rows import ANY, DEAD, EXPIRES, FAILS, RUNS, Row, RowMaker

_DEEP = 100_000
_HUGE = 50 * 1024 * 1024
_WRONG_TEXTS = (1, 1.5, [], {}, True, [None], {"a": 1})
_WRONG_HEADERS: dict[str, tuple[Any, ...]] = {
    "retries": ("x", [], 1.5, {}, "1"),
    "group_index": ("x", [], 0.5, {}),
    "ignore_result": ("x", [], 2, {}),
    "timelimit": ("x", 1, {}, [1], [1, 2, 3], ["a", None], [None, []]),
    "stamped_headers": ("x", 1, {}, [1], [None]),
    "stamps": ("x", 1, [], [{}]),
    "compression": _WRONG_TEXTS,
    "shadow": _WRONG_TEXTS,
}
_JUNK = (None, True, 0, -1, 2**70, 1e300, "", "x", "\x00", "é\u2028", [], {}, [1, [2]], {"a": {}})


class Touch:
    """Unpickled, it touches a file: what no worker may ever do with a message."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return open, (str(self.path), "w")


class HostileMessages(RowMaker):
    """Makes rows of every kind that has a method ``_bad_…``."""

    def __init__(self, seed: int, forbidden: Path):
        """`forbidden` is a file that appears should a message be obeyed that mustn't be."""
        super().__init__(seed)
        self._forbidden = forbidden
        self._makers = [
            getattr(self, name) for name in sorted(vars(type(self))) if name.startswith("_bad_")
        ]

    def mixed(self, bad: int, good: int, huge: int) -> list[Row]:
        """Return so many rows of each, shuffled; every kind of bad row is among them."""
        makers = self._makers * (bad // len(self._makers) + 1)
        rows = [maker() for maker in makers[:bad]]
        rows += [self.good() for _ in range(good)]
        rows += [self._huge() for _ in range(huge)]
        self.random.shuffle(rows)
        return rows

    def _pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    # -- what can't be read -------------------------------------------------------------------

    def _bad_cut_headers(self) -> Row:
        return self.row("cut-headers", DEAD, headers=lambda key: self.cut(self.headers(key)))

    def _bad_cut_body(self) -> Row:
        return self.row("cut-body", DEAD, body=lambda key: self.cut(self.body(key)))

    def _bad_flipped_headers(self) -> Row:
        return self.row("flip-headers", DEAD, headers=lambda key: self.flipped(self.headers(key)))

    def _bad_flipped_body(self) -> Row:
        return self.row("flip-body", DEAD, body=lambda key: self.flipped(self.body(key)))

    def _bad_random_bytes(self) -> Row:
        column = self.random.choice(["headers", "body", "extras"])
        noise = self.random.randbytes(self.random.randrange(1, 4000))
        return self.row("noise", DEAD, **{column: b"\xfe" + noise})

    def _bad_empty(self) -> Row:
        column = self.random.choice(["headers", "body", "extras"])
        return self.row("empty", DEAD, **{column: b""})

    def _bad_column_type(self) -> Row:
        column = self.random.choice(["id", "headers", "body", "extras", "strikes", "priority"])
        value = self.random.choice([b"\x00\xff", "text", 1.5, None, "\x00"])
        if column == "id" or (column, value) == ("extras", None):
            value = b"\xff"  # what SQLite doesn't turn into what it should be
        return self.row("column-type", DEAD, **{column: value})

    def _bad_stray(self) -> Row:
        """No consumer would ever see it."""
        column, value = self._pick(
            *(("queue", wrong) for wrong in (None, b"celery")),
            *(("state", wrong) for wrong in ("x", 7, -1, None, 0.5)),
            ("due_at", "soon"),
            ("due_at", None),
        )
        state = {"state": 2} if column == "due_at" else {}
        return self.row("stray", DEAD, **state, **{column: value})

    def _bad_held_by_nobody(self) -> Row:
        """A row that no living consumer holds is given back, and runs."""
        claim = self.random.choice([None, 0, -1, "x", b"x", 2**63 - 1, (1 << 62) + (1 << 50)])
        return self.row("orphan", RUNS, state=1, claim=claim)

    def _bad_token(self) -> Row:
        value = self.random.choice([None, "x", b"x", -5, 2**62, 0.5])
        return self.row("token", RUNS, token=value)

    def _bad_priority(self) -> Row:
        value = self.random.choice([-1, -(2**63), 2**63 - 1, 256, 10**9])
        return self.row("priority", RUNS, priority=value)

    def _bad_strikes(self) -> Row:
        return self.row("strikes", DEAD, strikes=self.random.choice([3, 1000, 2**63 - 1, -1]))

    # -- headers ------------------------------------------------------------------------------

    def _bad_headers_root(self) -> Row:
        root = self.random.choice([b"[]", b"null", b"1", b'"x"', b"[[]]", b"true", b"{}"])
        return self.row("headers-root", DEAD, headers=root)

    def _bad_deep_headers(self) -> Row:
        deep = b"[" * _DEEP + b"]" * _DEEP
        return self.row(
            "deep-headers",
            DEAD,
            headers=lambda key: self.headers(key)[:-1] + b', "x": ' + deep + b"}",
        )

    def _bad_header_type(self) -> Row:
        name = self._pick(*_WRONG_HEADERS, "task", "id", "root_id", "group", "eta", "expires")
        value = self._pick(*_WRONG_HEADERS.get(name, _WRONG_TEXTS))
        return self.row("header-type", DEAD, headers=lambda key: self.headers(key, **{name: value}))

    def _bad_missing_header(self) -> Row:
        name = self.random.choice(["task", "id"])

        def without(key: str) -> bytes:
            headers = json.loads(self.headers(key))
            del headers[name]
            return json.dumps(headers).encode()

        return self.row("missing", DEAD, headers=without)

    def _bad_empty_id(self) -> Row:
        """Without an id no result can be found; it is run or refused, and never lost."""
        return self.row("empty-id", ANY, headers=lambda key: self.headers(key, id=""))

    def _bad_surrogate(self) -> Row:
        name = self.random.choice(["task", "id", "root_id", "shadow"])

        def lone(key: str) -> bytes:
            return self.headers(key, **{name: "LONE"}).replace(b"LONE", rb"x\ud800")

        return self.row("surrogate", DEAD, headers=lone)

    def _bad_utf8(self) -> Row:
        bad = self.random.choice([b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\x80"])

        def broken(key: str) -> bytes:
            return self.headers(key, shadow="BROKEN").replace(b"BROKEN", bad)

        return self.row("utf8", DEAD, headers=broken)

    def _bad_number(self) -> Row:
        number = self.random.choice(
            [b"1e999", b"NaN", b"Infinity", b"-Infinity", b"0x1", b"1" * 9000]
        )
        name = self.random.choice(["retries", "timelimit", "group_index"])
        value = b"[" + number + b", null]" if name == "timelimit" else number

        def wrong(key: str) -> bytes:
            return self.headers(key, **{name: "NUMBER"}).replace(b'"NUMBER"', value)

        return self.row("number", DEAD, headers=wrong)

    def _bad_moment(self) -> Row:
        name = self.random.choice(["eta", "expires"])
        value = self.random.choice(
            [
                "soon",
                "",
                "2026-13-45T99:99:99",
                "9" * 400,
                "-1",
                "2026-01-01T00:00:00+99:99",
                "\x00",
            ]
        )
        return self.row("moment", DEAD, headers=lambda key: self.headers(key, **{name: value}))

    def _bad_expired(self) -> Row:
        return self.row(
            "expired",
            EXPIRES,
            headers=lambda key: self.headers(key, expires="2001-01-01T00:00:00"),
        )

    def _bad_retries(self) -> Row:
        """A count that no store can hold."""
        value = self.random.choice([2**62, 2**63, 10**30, -(10**30), -1])
        return self.row("retries", DEAD, headers=lambda key: self.headers(key, retries=value))

    def _bad_time_limit(self) -> Row:
        value = self.random.choice([[-1, None], [None, -0.1], [None, 1e300], [1e300, None]])
        return self.row("time-limit", DEAD, headers=lambda key: self.headers(key, timelimit=value))

    # -- tasks --------------------------------------------------------------------------------

    def _bad_task(self) -> Row:
        name = self.random.choice(
            [
                "os.system",
                "builtins.eval",
                "subprocess.run",
                "tasks.note",
                "tasks.app",
                "tasks.os.system",
                "tasks",
                "",
                " tasks.work",
                "tasks.work\x00",
                "__import__",
                "tasks.work.run",
                "../x",
                "celery.chord_unlock",
                "x" * 100_000,
            ]
        )
        command = f"touch {self._forbidden}"
        return self.row(
            "unknown-task",
            DEAD,
            headers=lambda key: self.headers(key, task=name),
            body=lambda key: json.dumps([[command], {}, {}]).encode(),
        )

    # -- bodies -------------------------------------------------------------------------------

    def _bad_content_type(self) -> Row:
        name = self.random.choice(
            [
                "application/x-python-serialize",
                "application/x-yaml",
                "application/x-msgpack",
                "text/plain",
                "",
                "json",
                "application/json; charset=utf-8",
                "\x00",
                "x" * 9000,
            ]
        )
        return self.row("content-type", DEAD, extras=self.extras(content_type=name))

    def _bad_content_encoding(self) -> Row:
        name = self.random.choice(
            ["rot13", "utf-7", "utf-16", "base64", "zlib", "gzip", "x" * 9000]
        )
        return self.row("content-encoding", DEAD, extras=self.extras(content_encoding=name))

    def _bad_extras(self) -> Row:
        data = self.random.choice(
            [
                b"[]",
                b"null",
                b'{"content_type": 1}',
                b'{"due_at": "x"}',
                b'{"properties": []}',
                b'{"task": 1}',
                b'{"expires_at": "x"}',
                b'{"delivery_mode": "x"}',
                b"{",
                b'{"a": 1e999}x',
            ]
        )
        return self.row("extras", DEAD, extras=data)

    def _bad_pickle(self) -> Row:
        data = pickle.dumps([[Touch(self._forbidden)], {}, {}])
        extras = self.random.choice(
            [None, self.extras(content_type="application/x-python-serialize")]
        )
        return self.row("pickle", DEAD, body=data, extras=extras)

    def _bad_deep_body(self) -> Row:
        depth = self.random.choice([250, 2000, _DEEP])
        brackets = self.random.choice([(b"[", b"]"), (b'{"a":', b"}")])
        inner = brackets[0] * depth + b"1" + brackets[1] * depth
        return self.row("deep-body", DEAD, body=b"[[" + inner + b"], {}, {}]")

    def _bad_body_shape(self) -> Row:
        shape = self.random.choice(
            [
                {},
                None,
                1,
                "x",
                [],
                [[]],
                [[], {}],
                [[], {}, {}, {}],
                [{}, {}, {}],
                [[], [], {}],
                ["x", {}, {}],
                [None, {}, {}],
                [[], "x", {}],
                [[], None, {}],
                [[], {}, 1],
                [[], {}, "x"],
                [[], {}, [1]],
                {"args": [], "kwargs": {}},
            ]
        )
        return self.row("body-shape", DEAD, body=json.dumps(shape).encode())

    def _bad_embed_type(self) -> Row:
        name = self.random.choice(["callbacks", "errbacks", "chain"])
        value = self.random.choice([1, "x", {}, True, 1.5, {"task": "tasks.work"}])
        return self.row("embed-type", DEAD, body=lambda key: self.body(key, **{name: value}))

    def _bad_compression(self) -> Row:
        name, squeeze = self.random.choice(
            [
                ("application/x-gzip", zlib.compress),
                ("application/x-bz2", bz2.compress),
                ("application/x-lzma", lzma.compress),
                ("application/x-rot13", bytes),
                ("", bytes),
            ]
        )
        spoil = self.random.choice([self.cut, self.flipped])
        return self.row(
            "compression",
            DEAD,
            headers=lambda key: self.headers(key, compression=name),
            body=lambda key: spoil(squeeze(self.body(key))),
        )

    # -- calls that can't succeed -------------------------------------------------------------

    def _bad_arguments(self) -> Row:
        args = self.random.choice([[], ["k", 1, 2], [1, 2, 3, 4, 5, 6]])
        kwargs = self.random.choice([{}, {"nope": 1}, {"": 1}, {"self": 1}, {"a b\x00": 1}])
        return self.row("arguments", FAILS, body=json.dumps([args, kwargs, {}]).encode())

    def _bad_argument_value(self) -> Row:
        value = self.random.choice(["soon", [1], {"a": 1}, 1e300, -5])
        return self.row("value", FAILS, body=lambda key: self.body(key, value))

    def _bad_follow_ups(self) -> Row:
        name = self.random.choice(["callbacks", "chain", "errbacks"])
        call = {"task": "tasks.work", "args": ["x"], "kwargs": {}, "options": {}}
        wrong = self.random.choice(
            [
                {"task": 1},
                {"task": ""},
                {"args": "x"},
                {"kwargs": []},
                {"options": [1]},
                {"args": {}},
            ]
        )
        value = [call, self.random.choice([self._pick(*_JUNK), {**call, **wrong}])]
        return self.row("follow-ups", DEAD, body=lambda key: self.body(key, **{name: value}))

    def _bad_follow_up_task(self) -> Row:
        """It runs; the task that is to follow doesn't exist."""
        call = {
            "task": "os.system",
            "args": [f"touch {self._forbidden}"],
            "kwargs": {},
            "options": {},
        }
        return self.row("follow-up-task", RUNS, body=lambda key: self.body(key, callbacks=[call]))

    # -- size ---------------------------------------------------------------------------------

    def _huge(self) -> Row:
        size = 50 * 1024 * 1024
        choice = self.random.randrange(3)
        if choice == 0:
            return self.row("huge", DEAD, body=b'[["' + b"x" * size + b'"], {}, {}]')
        if choice == 1:
            return self.row("huge-noise", DEAD, body=bytes(size))
        squeezed = zlib.compress(b'[["' + b"x" * (4 * size) + b'"], {}, {}]', 9)
        return self.row(
            "bomb",
            DEAD,
            headers=lambda key: self.headers(key, compression="application/x-gzip"),
            body=squeezed,
        )
