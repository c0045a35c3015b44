from __future__ import annotations

import json
import pickle
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.builtin.json_serializer import JsonSerializer
from umbel.clock import to_iso
from umbel.error_info import error_info, rebuild
from umbel.errors import DecodeError, EncodeError, UnknownTaskError
from umbel.interfaces.serializer import Serializer
from umbel.outcomes import ErrorInfo
from umbel.results.codec import ResultDocument, decode_result, encode_result
from umbel.states import State

serializer = JsonSerializer()
DONE_AT = 1_795_348_628.132389
DONE = "2026-11-22T11:57:08.132389+00:00"


class PickleSerializer(Serializer):
    name: ClassVar[str] = "pickle"
    content_type: ClassVar[str] = "application/x-python-serialize"
    content_encoding: ClassVar[str] = "binary"
    safe: ClassVar[bool] = False

    def dumps(self, value: Any) -> bytes:
        return pickle.dumps(value)

    def loads(self, data: bytes) -> Any:
        return pickle.loads(data)


def document(**fields: Any) -> dict[str, Any]:
    given = {"task_id": "239a", "state": "SUCCESS", "serializer": serializer, **fields}
    raw: dict[str, Any] = json.loads(encode_result(**given))
    return raw


class TestEncode:
    def test_a_success_is_celerys_document_in_its_order(self) -> None:
        raw = document(value=b"5", children=[], date_done=DONE_AT)

        assert list(raw.items()) == [
            ("status", "SUCCESS"),
            ("result", 5),
            ("traceback", None),
            ("children", []),
            ("date_done", DONE),
            ("task_id", "239a"),
        ]

    def test_links_and_extended_fields_stand_where_celery_has_them(self) -> None:
        extended = {
            "name": "proj.add",
            "args": [2, 3],
            "kwargs": {},
            "worker": "w@h",
            "retries": 0,
            "queue": "celery",
            "stamped_headers": ["tag"],
            "tag": "x",
        }

        raw = document(value=b"5", group_id="g", parent_id="p", extended=extended)

        assert list(raw) == [
            "status",
            "result",
            "traceback",
            "children",
            "date_done",
            "group_id",
            "parent_id",
            *extended,
            "task_id",
        ]
        assert raw["tag"] == "x"

    def test_a_failure(self) -> None:
        error = ErrorInfo("ValueError", "builtins", ["bad"], "Traceback …")

        raw = document(state=State.FAILURE, error=error)

        assert (raw["status"], raw["traceback"]) == ("FAILURE", "Traceback …")
        assert raw["result"] == {
            "exc_type": "ValueError",
            "exc_message": ["bad"],
            "exc_module": "builtins",
        }

    def test_arguments_of_an_error_are_tagged_as_values_are(self) -> None:
        raw = document(state="FAILURE", error=error_info(KeyError(b"x")))

        assert raw["result"]["exc_message"] == [{"__type__": "bytes", "__value__": "x"}]

    def test_meta_of_a_state_of_the_tasks_own(self) -> None:
        raw = document(state="PROGRESS", meta={"done": date(2020, 1, 1)})

        assert raw["status"] == "PROGRESS"
        assert raw["result"] == {"done": {"__type__": "date", "__value__": "2020-01-01"}}
        assert raw["date_done"] is None

    def test_meta_that_cannot_be_encoded(self) -> None:
        with pytest.raises(EncodeError, match=r"value\['x'\]"):
            document(state="PROGRESS", meta={"x": object()})

    def test_a_stamp_replaces_no_field(self) -> None:
        raw = document(value=b"5", extended={"status": "FAILURE", "result": 6, "tag": 1})

        assert (raw["status"], raw["result"], raw["tag"]) == ("SUCCESS", 5, 1)

    def test_a_value_is_spliced_as_it_is(self) -> None:
        data = encode_result(task_id="a", state="SUCCESS", value=b"[NaN]", serializer=serializer)

        assert b'"result":[NaN],' in data

    @pytest.mark.parametrize("task_id", ['a"b', "a\\b", "é", "\ud800"])
    @pytest.mark.parametrize("extended", [None, {"name": "x"}])
    def test_any_id_comes_back(self, task_id: str, extended: Any) -> None:
        data = encode_result(
            task_id=task_id, state="SUCCESS", value=b"5", extended=extended, serializer=serializer
        )

        found = decode_result(data, serializer)
        assert (found.task_id, found.result) == (task_id, 5)

    @given(st.floats(0, 4_000_000_000))
    def test_instants_are_written_as_by_the_clock(self, at: float) -> None:
        written = document(value=b"5", date_done=at)["date_done"]

        apart = datetime.fromisoformat(written) - datetime.fromisoformat(to_iso(at))
        assert abs(apart) <= timedelta(microseconds=1)
        assert written.endswith("+00:00")

    def test_a_serializer_other_than_json(self) -> None:
        data = encode_result(
            task_id="a",
            state=State.SUCCESS,
            value=pickle.dumps({1, 2}),
            date_done=DONE_AT,
            parent_id="p",
            extended={"name": "x"},
            serializer=PickleSerializer(),
        )

        assert pickle.loads(data) == {
            "status": "SUCCESS",
            "result": {1, 2},
            "traceback": None,
            "children": None,
            "date_done": DONE,
            "parent_id": "p",
            "name": "x",
            "task_id": "a",
        }
        assert decode_result(data, PickleSerializer()).result == {1, 2}


class TestDecode:
    def test_all_fields_come_back(self) -> None:
        data = encode_result(
            task_id="a",
            state="SUCCESS",
            value=b"5",
            children=[[["b", None], None]],
            date_done=DONE_AT,
            parent_id="p",
            group_id="g",
            extended={
                "name": "proj.add",
                "args": [2, 3],
                "kwargs": {"x": 1},
                "worker": "w@h",
                "retries": 1,
                "queue": "celery",
                "tag": "x",
            },
            serializer=serializer,
        )

        assert decode_result(data, serializer) == ResultDocument(
            task_id="a",
            status="SUCCESS",
            result=5,
            children=[[["b", None], None]],
            date_done=DONE_AT,
            parent_id="p",
            group_id="g",
            name="proj.add",
            args=[2, 3],
            kwargs={"x": 1},
            worker="w@h",
            retries=1,
            queue="celery",
            extra={"tag": "x"},
        )

    def test_what_celery_wrote(self) -> None:
        data = (
            b'{"status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["x"], '
            b'"exc_module": "builtins"}, "traceback": "tb", "children": [], "date_done": '
            b'"2026-11-22T15:20:04.869902+00:00", "group_id": "g", "parent_id": "p", "name": "t", '
            b'"args": [1], "kwargs": {}, "worker": "h", "retries": 0, "queue": "q", '
            b'"stamped_headers": ["a", "b"], "a": 1, "b": ["x"], "task_id": "id1"}'
        )

        found = decode_result(data, serializer)

        assert (found.task_id, found.status, found.queue) == ("id1", "FAILURE", "q")
        assert found.extra == {"stamped_headers": ["a", "b"], "a": 1, "b": ["x"]}
        assert found.error == ErrorInfo("ValueError", "builtins", ["x"], "tb")
        assert found.date_done == datetime(2026, 11, 22, 15, 20, 4, 869902, UTC).timestamp()

    def test_a_time_without_offset_is_utc(self) -> None:
        data = b'{"status":"SUCCESS","date_done":"2026-11-22T11:57:08.132389","task_id":"a"}'

        assert decode_result(data, serializer).date_done == DONE_AT

    @pytest.mark.parametrize(
        "raw",
        [
            "5",
            "[]",
            "{}",
            '{"status":null}',
            '{"status":5}',
            '{"status":"SUCCESS","task_id":5}',
            '{"status":"SUCCESS","children":{}}',
            '{"status":"SUCCESS","traceback":["x"]}',
            '{"status":"SUCCESS","date_done":5}',
            '{"status":"SUCCESS","date_done":"yesterday"}',
            '{"status":"SUCCESS","retries":"1"}',
            '{"status":"SUCCESS","retries":true}',
            '{"status":"SUCCESS","queue":{}}',
            '{"status":',
        ],
    )
    def test_a_malformed_document_is_a_decode_error(self, raw: str) -> None:
        with pytest.raises(DecodeError):
            decode_result(raw.encode(), serializer)

    def test_the_error_names_field_and_task(self) -> None:
        with pytest.raises(DecodeError, match="'retries' of result 'a' must be int, not 'x'"):
            decode_result(b'{"status":"SUCCESS","task_id":"a","retries":"x"}', serializer)


class TestError:
    @pytest.mark.parametrize(
        "exc", [ValueError("bad", 1), KeyError(b"\xff"), UnknownTaskError("x")]
    )
    def test_an_exception_goes_there_and_back(self, exc: Exception) -> None:
        data = encode_result(
            task_id="a", state="FAILURE", error=error_info(exc), serializer=serializer
        )

        error = decode_result(data, serializer).error
        assert error is not None
        back = rebuild(error)
        assert (type(back), back.args) == (type(exc), exc.args)

    @pytest.mark.parametrize(
        "result, error",
        [
            (None, None),
            (5, None),
            ({"exc_message": ["x"]}, None),
            ({"exc_type": 5}, None),
            ({"exc_type": "E"}, ErrorInfo("E", None, [])),
            ({"exc_type": "E", "exc_message": "x"}, ErrorInfo("E", None, ["x"])),
            ({"exc_type": "E", "exc_module": 5}, ErrorInfo("E", None, [])),
        ],
    )
    def test_what_counts_as_an_error(self, result: Any, error: ErrorInfo | None) -> None:
        assert ResultDocument(task_id="a", status="FAILURE", result=result).error == error
