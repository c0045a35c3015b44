"""Which JSON forms of signatures travel on as they are."""

from __future__ import annotations

import pytest

from umbel import Signature, chain, chord, group
from umbel.canvas.forms import check
from umbel.errors import DecodeError
from umbel.signature_forms import is_form


def call(**changed):
    return {**Signature("add", (1,), {"y": 2}).to_dict(), **changed}


@pytest.mark.parametrize(
    "form",
    [
        call(),
        call(options={"task_id": "a", "link": [call()], "chord": call()}),
        chain(Signature("a"), Signature("b")).to_dict(),
        group(Signature("a"), chain(Signature("b"), Signature("c"))).to_dict(),
        {**call(), "umbel_on_failure": "ignore"},
    ],
)
def test_whole_forms_travel_as_they_are(form):
    assert is_form(form)
    assert Signature.from_dict(form).to_dict() == form


@pytest.mark.parametrize(
    "form",
    [
        Signature("add"),
        {"task": "add"},
        call(task=""),
        call(task=7),
        call(args=(1,)),
        call(kwargs=None),
        call(options=None),
        call(options={"link": [{"task": "add"}]}),
        call(options={"chain": [Signature("add")]}),
        call(subtask_type="chain"),
        {**chain(Signature("a")).to_dict(), "kwargs": {"tasks": [{"task": "b"}]}},
        chord([Signature("a")], Signature("b")).to_dict(),
    ],
)
def test_other_forms_are_read_first(form):
    assert not is_form(form)


def test_check_refuses_what_cannot_be_read():
    check(call())
    check({"task": "add"})
    for malformed in ({"task": ""}, call(options={"link": [{"task": 7}]}), call(args="text")):
        with pytest.raises(DecodeError):
            check(malformed)
