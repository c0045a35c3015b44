from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import namedtuple
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypeVar, Union
from uuid import UUID

import msgspec
import pydantic
import pytest

from umbel.builtin.json_serializer import JsonSerializer
from umbel.tasks.conversion import converter_for

T = TypeVar("T")
ID = UUID("12345678-1234-5678-1234-567812345678")
MOMENT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1)))


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    at: UUID | None = None


@dataclasses.dataclass
class Path:
    points: list[Point]
    parent: Path | None = None


class Struct(msgspec.Struct):
    x: Decimal


class Pair(NamedTuple):
    x: int
    y: Color


class Model(pydantic.BaseModel):
    id: UUID
    when: datetime
    color: Color = Color.RED


@pydantic.dataclasses.dataclass
class PydanticPoint:
    x: int


class Unknown:
    """A class of the user's that nobody knows how to take apart."""


ROUND_TRIPS = [
    (Point, Point(1, ID)),
    (list[Point], [Point(1), Point(2)]),
    (dict[str, Point], {"a": Point(1)}),
    (Point | None, None),
    (Optional[Point], Point(1)),  # noqa: UP045 - the old way to write it
    (Union[Point, None], Point(1)),  # noqa: UP007 - the old way to write it
    (Annotated[Point, "with a note"], Point(3)),
    (Path, Path([Point(1)], Path([]))),
    (Struct, Struct(Decimal("1.10"))),
    (Pair, Pair(1, Color.RED)),
    (Color, Color.RED),
    (Level, Level.LOW),
    (UUID, ID),
    (Decimal, Decimal("1.10")),
    (datetime, MOMENT),
    (date, date(2030, 1, 2)),
    (time, time(3, 4, 5)),
    (timedelta, timedelta(days=1, seconds=3)),
    (bytes, b"\xff\x00"),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (tuple[int, Color], (1, Color.RED)),
    (Model, Model(id=ID, when=MOMENT)),
    (list[Model], [Model(id=ID, when=MOMENT)]),
    (Model | None, None),
    (PydanticPoint, PydanticPoint(3)),
    ("Point", Point(1)),
]


@pytest.mark.parametrize("annotation, value", ROUND_TRIPS, ids=repr)
def test_value_arrives_as_it_was_sent(annotation, value):
    converter, json = converter_for(annotation, globals()), JsonSerializer()

    arrived = converter.load(json.loads(json.dumps(converter.dump(value))))

    assert arrived == value
    assert type(arrived) is type(value)


@pytest.mark.parametrize(
    "annotation, plain, value",
    [
        (UUID, str(ID), ID),
        (Decimal, "1.10", Decimal("1.10")),
        (datetime, MOMENT.isoformat(), MOMENT),
        (Model, {"id": str(ID), "when": MOMENT.isoformat()}, Model(id=ID, when=MOMENT)),
        (tuple[int, ...], [1, 2], (1, 2)),
    ],
)
def test_plain_form_of_a_foreign_client_is_taken(annotation, plain, value):
    assert converter_for(annotation, {}).load(plain) == value


@pytest.mark.parametrize(
    "annotation",
    [
        int,
        str | None,
        list[dict[str, float]],
        Any,
        object,
        Literal["a"],
        T,
        Unknown,
        None,
        "Missing",
        "not an annotation (",
    ],
    ids=repr,
)
def test_ordinary_annotation_needs_no_conversion(annotation):
    assert converter_for(annotation, globals()) is None


def test_union_that_cant_be_told_apart_is_left_alone():
    assert converter_for(Point | Unknown, {}) is None


def test_wrong_value_is_an_error():
    with pytest.raises(ValueError, match="Expected `int`"):
        converter_for(Point, {}).load({"x": "one"})


def test_wrong_value_of_a_model_is_an_error():
    with pytest.raises(ValueError, match="id"):
        converter_for(Model, {}).load({"id": "zzz"})


def test_part_of_unknown_class_is_left_for_the_serializer_to_judge():
    value = [Point(1), Unknown()]

    assert converter_for(list[Point], {}).dump(value) is value


def test_namedtuple_without_annotations_becomes_one_again():
    converter = converter_for(namedtuple("Old", "x y"), {})  # noqa: PYI024 - the old way

    assert converter.load([1, 2]).y == 2


def test_pydantic_isnt_imported_for_other_types():
    code = (
        "import sys, dataclasses\n"
        "from umbel.tasks.conversion import converter_for\n"
        "P = dataclasses.make_dataclass('P', [('x', int)])\n"
        "converter_for(P, {}).load({'x': 1})\n"
        "print('pydantic' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
