"""Signatures as values: what their modifiers do, and the form in which they travel."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel import Umbel, chain, chord, chunks, group, maybe_signature, signature, xmap, xstarmap
from umbel.canvas import Signature, subtask
from umbel.errors import DecodeError, InvalidTaskError, NoCurrentAppError

add = Signature("add")
NAMES = st.sampled_from(["add", "mul", "proj.tasks.total"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
)
KWARGS = st.dictionaries(st.sampled_from(["x", "y", "args"]), VALUES, max_size=2)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "queue": st.sampled_from(["q", "r"]),
        "countdown": st.integers(0, 9),
        "priority": st.integers(0, 9),
        "task_id": st.sampled_from(["1", "2"]),
        "headers": KWARGS,
    },
)
CALLS = st.builds(
    Signature,
    NAMES,
    st.lists(VALUES, max_size=2),
    KWARGS,
    OPTIONS,
    immutable=st.booleans(),
    extra=st.dictionaries(st.just("chord_size"), st.none() | st.integers(0, 3)),
)
ITEMS = st.lists(st.lists(VALUES, max_size=2), max_size=3)


def composed(inner):
    several = st.lists(inner, max_size=3)
    return st.one_of(
        st.builds(lambda found, own: chain(found, **own), several, OPTIONS),
        st.builds(lambda found, own: group(found, **own), several, OPTIONS),
        st.builds(lambda header, body, own: chord(header, body, **own), several, inner, OPTIONS),
        st.builds(lambda one, callback: one.link(callback), inner, inner.filter(has_body)),
        st.builds(xmap, NAMES, ITEMS),
        st.builds(xstarmap, NAMES, ITEMS),
        st.builds(chunks, NAMES, ITEMS, st.integers(1, 3)),
    )


def has_body(found):
    return not isinstance(found, chord) or found.body is not None


SIGNATURES = st.recursive(CALLS, composed, max_leaves=6)
few = settings(max_examples=40, deadline=None)


# -- the dict form ------------------------------------------------------------------------------


@few
@given(SIGNATURES)
def test_can_01_dict_form_is_read_back_as_the_same(found):
    read = Signature.from_dict(found.to_dict())

    assert read == found
    assert type(read) is type(found)
    assert read.to_dict() == found.to_dict()


@few
@given(SIGNATURES)
def test_can_01_json_form_is_read_back_as_the_same(found):
    travelled = json.loads(json.dumps(found.to_dict()))

    assert Signature.from_dict(travelled) == found
    assert Signature.from_dict(travelled).to_dict() == travelled


@few
@given(SIGNATURES)
def test_can_01_pickled_and_copied_ones_are_the_same(found):
    assert pickle.loads(pickle.dumps(found)) == found
    assert copy.copy(found) == copy.deepcopy(found) == found


@pytest.mark.parametrize("made", [add, chain(add), group(add), chord([add], add), xmap("add", [1])])
def test_can_01_form_has_the_keys_of_celery(made):
    assert made.to_dict().keys() == {
        "task", "args", "kwargs", "options", "subtask_type", "immutable",
    }  # fmt: skip
    assert dict(made) == made.to_dict()
    assert made["subtask_type"] == made.get("subtask_type") == made.subtask_type


def test_can_01_keys_of_others_are_kept():
    form = {**add.to_dict(), "chord_size": 3}

    assert Signature.from_dict(form).set(queue="q").to_dict()["chord_size"] == 3


def test_can_01_of_a_registered_type_is_the_class_read():
    @Signature.register_type("mine")
    class Mine(Signature):
        __slots__ = ()

    try:
        form = Signature("add", subtask_type="mine").to_dict()
        assert type(Signature.from_dict(form)) is Mine
    finally:
        del Signature.TYPES["mine"]


def test_can_01_an_unknown_type_is_a_call():
    form = {**add.to_dict(), "subtask_type": "of the future"}

    assert Signature.from_dict(form).to_dict() == form


@pytest.mark.parametrize(
    "raw, text",
    [
        (5, "must be an object"),
        ({}, "'task' of|'task' must be a name"),
        ({"task": "a", "args": "xy"}, "'args'"),
        ({"task": "a", "kwargs": []}, "'kwargs'"),
        ({"task": "a", "options": 1}, "'options'"),
        ({"task": "celery.chord", "subtask_type": "chord", "kwargs": {"header": [1]}}, "'header'"),
        ({"task": "celery.chain", "subtask_type": "chain", "kwargs": {"tasks": 1}}, "'tasks'"),
    ],
)
def test_can_01_what_is_no_signature_is_refused(raw, text):
    with pytest.raises(DecodeError, match=text):
        Signature.from_dict(raw)


def test_can_02_what_no_signature_can_be_made_of_is_refused(app):
    @app.task(name="proj.mine")
    def mine(): ...

    for make in (signature, maybe_signature):
        with pytest.raises(InvalidTaskError, match="not of 5"):
            make(5)
    with pytest.raises(TypeError, match=r"as link, .* task.s\(\) makes one of a task"):
        add.link(mine)


def test_signatures_are_equal_by_value_and_have_no_hash(app):
    @app.task(name="proj.mine")
    def mine(): ...

    assert mine.s(1) == Signature("proj.mine", (1,)) == Signature("proj.mine", [1]).to_dict()
    assert mine.s(1) != mine.s(2)
    assert mine.s() != "proj.mine"
    with pytest.raises(TypeError, match="unhashable"):
        hash(mine.s())


def test_signature_is_no_iterable():
    for made in (add, group(add)):
        with pytest.raises(TypeError):
            list(made)


# -- ways to make one ---------------------------------------------------------------------------


def test_can_02_shortcuts_make_the_same(app):
    @app.task(name="add")
    def task(x, y=0): ...

    made = task.s(1, y=2)
    assert made == task.signature((1,), {"y": 2}) == task.subtask((1,), {"y": 2})
    assert made == signature(task, (1,), {"y": 2}) == subtask("add", args=(1,), kwargs={"y": 2})
    assert (
        made == app.signature("add", args=[1], kwargs={"y": 2}) == Signature(task, (1,), {"y": 2})
    )
    assert task.si(1) == task.s(1).set(immutable=True) == task.signature((1,), immutable=True)


def test_can_02_options_are_given_by_name_or_as_a_dict(app):
    @app.task(name="add")
    def task(): ...

    wanted = {"countdown": 10, "queue": "q"}
    for made in (
        task.signature(countdown=10, queue="q"),
        task.signature(options={"countdown": 10}, queue="q"),
        signature("add", countdown=10, queue="q"),
        signature("add", options={"countdown": 10}, queue="q"),
    ):
        assert made.options == wanted


def test_can_02_maybe_signature_takes_what_may_be_one(app):
    assert maybe_signature(None) is None
    assert maybe_signature(add, clone=True) == maybe_signature(add.to_dict()) == add
    assert maybe_signature(add.to_dict(), app=app).app is app
    assert signature(add.to_dict(), app=app).app is app


def test_unbound_signature_is_of_the_current_app(make_app):
    found = Signature("add")
    with pytest.raises(NoCurrentAppError):
        _ = found.app
    one, other = make_app("one"), make_app("other")
    one.set_current()
    assert found.app is one
    assert found.bound_to(other).app is other
    assert pickle.loads(pickle.dumps(found.bound_to(other))).app is one


def test_copies_stay_bound(app):
    @app.task
    def mine(): ...

    sig = mine.s()
    for made in (sig.set(queue="q"), sig.clone((1,)), copy.deepcopy(sig), sig.link(sig), sig | sig):
        assert made._app is sig._app is not None


# -- partials -----------------------------------------------------------------------------------


def test_can_03_arguments_are_prepended_and_the_rest_is_merged():
    partial = Signature("t", (3,), {"x": 1, "y": 1}, {"queue": "a", "priority": 1})
    made = partial.clone((1, 2), {"x": 2, "z": 2}, queue="b")

    assert made.args == (1, 2, 3)
    assert made.kwargs == {"x": 2, "y": 1, "z": 2}
    assert made.options == {"queue": "b", "priority": 1}
    assert partial.partial((0,)).args == (0, 3)


def test_can_03_the_group_that_it_is_in_is_not_overridden():
    member = Signature("t", group_id="g")

    assert member.clone(group_id="other").options["group_id"] == "g"
    assert member.set(group_id="other").options["group_id"] == "other"
    assert Signature("t").clone(group_id="g").options["group_id"] == "g"


@pytest.mark.parametrize(
    "made, first",
    [
        (chain(add, add), lambda found: found.tasks[:1]),
        (group(add, add), lambda found: found.tasks),
        (chord([add, add], add), lambda found: found.tasks),
    ],
)
def test_can_03_arguments_of_what_is_composed_are_for_those_that_begin(made, first):
    found = made.clone((1,), {"x": 2})

    for each in first(found):
        assert (each.args, each.kwargs) == ((1,), {"x": 2})
    if isinstance(made, chain):
        assert found.tasks[1] == add
    if isinstance(made, chord):
        assert found.body == add


def test_can_04_of_an_immutable_one_only_options_change():
    fixed = Signature("t", (1,), {"x": 1}, immutable=True)
    made = fixed.clone((0,), {"x": 2}, queue="q")

    assert (made.args, made.kwargs, made.options) == ((1,), {"x": 1}, {"queue": "q"})
    assert fixed.set_immutable(False).clone((0,)).args == (0, 1)


def test_can_04_set_immutable_means_those_that_begin():
    assert [each.immutable for each in group(add, add).set_immutable().tasks] == [True, True]
    made = chord([add], add).set(immutable=True)
    assert (made.tasks[0].immutable, made.body.immutable) == (True, False)
    assert [each.immutable for each in chain(add, add).set_immutable().tasks] == [True, False]


# -- modifiers ----------------------------------------------------------------------------------


@few
@given(SIGNATURES)
def test_cfp_22_no_modifier_changes_what_it_is_called_on(found):
    before = copy.deepcopy(found.to_dict())
    found.clone((1,), {"x": 1}, queue="other")
    found.set(queue="other", immutable=True)
    found.set_immutable()
    found.replace(args=(), kwargs=found.kwargs, options={})
    if has_body(found):
        found.link(add)
        found.link_error(add)
        found.on_error(add)
        _ = found | add
    _ = add | found
    found.stamp(tag=1)

    assert found.to_dict() == before


def test_cfp_22_nothing_can_be_set_in_place():
    made = Signature("t", (1,), {"x": 1}, {"queue": "q"})

    with pytest.raises(AttributeError, match="set"):
        made.args = ()
    with pytest.raises(TypeError, match=r"set\(\), clone\(\) and replace\(\)"):
        made.options["queue"] = "r"
    with pytest.raises(TypeError):
        made.kwargs.update(x=2)
    with pytest.raises(TypeError):
        made["args"] = ()
    assert made == Signature("t", (1,), {"x": 1}, {"queue": "q"})


def test_cfp_22_what_it_was_made_of_is_not_shared():
    kwargs, options = {"x": 1}, {"queue": "q"}
    made = Signature("t", (), kwargs, options)
    kwargs["x"] = options["queue"] = 2

    assert (made.kwargs, made.options) == ({"x": 1}, {"queue": "q"})


def test_can_05_replace_puts_other_parts_in_the_place_of_its_own():
    made = Signature("t", (1,), {"x": 1}, {"queue": "q"})

    assert made.replace(args=(2,)) == Signature("t", (2,), {"x": 1}, {"queue": "q"})
    assert made.replace(kwargs={}, options={"priority": 1}) == Signature("t", (1,), priority=1)


def test_can_05_freeze_gives_the_id_and_place_that_it_is_sent_with(app, waiting):
    made = Signature("t", app=app).freeze("mine", "g", add, "root", "parent", 3)

    assert made.id == made.result.id == "mine"
    made.apply_async()
    headers = waiting(app)[0].headers
    found = [headers[key] for key in ("id", "group", "group_index", "root_id", "parent_id")]
    assert found == ["mine", "g", 3, "root", "parent"]


def test_can_05_freeze_keeps_what_is_fixed(app):
    made = Signature("t", app=app, task_id="own", group_id="g").freeze("other", "h")

    assert (made.id, made.options["group_id"]) == ("own", "g")
    assert made.freeze() == made


def test_can_05_what_has_no_id_has_no_result(app):
    with pytest.raises(InvalidTaskError, match="no id yet"):
        _ = Signature("t", app=app).result


def test_can_20_links_are_a_list_without_repeats():
    made = add.link(add).link(Signature("b")).link(add.to_dict())

    assert made.options["link"] == [add, Signature("b")]
    assert add.set(link=add).link(Signature("b")).options["link"] == [add, Signature("b")]
    assert add.link_error(add).on_error(add).options["link_error"] == [add]


def test_can_20_flatten_links_goes_down_all_callbacks():
    inner = Signature("b").link(Signature("c"))
    made = Signature("a").link(inner).link(Signature("d"))

    assert [each.task for each in made.flatten_links()] == ["a", "b", "c", "d"]


# -- calling ------------------------------------------------------------------------------------


def test_can_06_called_it_runs_here(app):
    @app.task
    def minus(x, y, *, z=0):
        return x - y + z

    assert minus.s(2)(5) == 3
    assert minus.si(5, 2)(9) == 3
    assert minus.s(2, z=1)(5, z=10) == 13


def test_can_06_repr_shows_the_call():
    assert repr(Signature("add", (1,), {"y": 2})) == "add(1, y=2)"


def test_can_03_none_says_nothing_where_it_is_sent(app, waiting):
    Signature("t", queue="q", app=app).apply_async(queue=None, priority=None)

    assert len(waiting(app, "q")) == 1


@pytest.fixture
def echoing(make_app):
    app = make_app(backend="memory://")

    @app.task(name="echo")
    def echo(*args):
        return list(args)

    @app.task(name="add")
    def add(x, y):
        return x + y

    return app


def test_signature_as_an_argument_arrives_in_its_form(echoing: Umbel):
    @echoing.task(name="call")
    def call(raw, x):
        return signature(raw, app=echoing)(x)

    made = signature("add", args=(2,))
    nested = chain(made, group(made, made))
    with echoing.worker():
        assert call_result(echoing, "call", made, 1) == 3
        [found] = call_result(echoing, "echo", nested)
    assert signature(found) == nested


def call_result(app, name, *args):
    return app.send_task(name, args).get(timeout=10)


def test_can_06_inverted_it_is_sent_and_its_value_returned(echoing: Umbel):
    with echoing.worker():
        assert ~echoing.tasks["add"].s(1, 2) == 3


def test_can_24_options_of_a_call_travel(echoing: Umbel, waiting):
    made = Signature("add", app=echoing, time_limit=9, priority=3)
    made.apply_async((1, 2), soft_time_limit=5, task_id="mine", headers={"own": 1})

    [message] = waiting(echoing)
    assert message.headers["timelimit"] == [9, 5]
    assert (message.id, message.priority, message.headers["own"]) == ("mine", 3, 1)
