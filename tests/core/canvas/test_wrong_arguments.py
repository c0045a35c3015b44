"""What is no signature, argument, option or stamp is refused where it is given, and named."""

from __future__ import annotations

import pytest

from umbel import chain, chord, chunks, group, signature, xmap, xstarmap
from umbel.canvas import Signature, StampingVisitor, maybe_signature
from umbel.errors import DecodeError, InvalidTaskError, UmbelError, WrongTypeError

a, b = Signature("a"), Signature("b")
NO_SIGNATURES = [5, "abc", None, True, float("nan"), b"x", [5], object(), [[]]]
NO_LISTS = [5, "abc", b"x", 1.5, {"a": 1}, object()]


class Returns(StampingVisitor):
    """Gives what are no stamps."""

    def __init__(self, given):
        self.given = given

    def on_signature(self, sig, **headers):
        return self.given


@pytest.mark.parametrize("wrong", NO_SIGNATURES)
def test_what_is_no_signature_is_refused_wherever_one_is_wanted(wrong):
    places = [
        lambda: chain(a, wrong),
        lambda: group(a, wrong),
        lambda: chord([a, wrong], b),
        lambda: chord([a])(wrong) if wrong is not None else chord(wrong),
        lambda: a.link(wrong),
        lambda: a.link_error(wrong),
        lambda: group(a).on_error(wrong),
        lambda: chord([a], b).link(wrong),
        lambda: a | wrong,
        lambda: wrong | a,
        lambda: group(a) | wrong,
        lambda: chord([a], b) | wrong,
    ]
    for place in places:
        with pytest.raises(WrongTypeError, match=r"a signature is wanted.*, such as task\.s"):
            place()


@pytest.mark.parametrize("error", [UmbelError, InvalidTaskError, TypeError, ValueError])
def test_error_is_what_callers_look_for(error):
    with pytest.raises(error, match=r"a signature is wanted as link, such as task\.s\(\), not 5"):
        a.link(5)


def test_result_in_the_place_of_a_signature_is_told_from_it(flows):
    result = flows.send_task("add", (1,))

    with pytest.raises(WrongTypeError, match=r"was sent already: give add.s\(2\), not add.delay"):
        chain(a, result)
    with pytest.raises(WrongTypeError, match="made of a task, its name or the JSON form"):
        Signature(result)


def test_task_in_the_place_of_a_signature_is_told_what_to_do(flows):
    for place in (lambda: chain(a, flows.tasks["add"]), lambda: a | flows.tasks["add"]):
        with pytest.raises(WrongTypeError, match=r"; task.s\(\) makes one of a task"):
            place()


@pytest.mark.parametrize("wrong", [5, None, [], b"x", object(), ""])
def test_signature_is_made_of_a_task_or_a_name(wrong):
    makers = [Signature, signature, lambda given: xmap(given, [1])]
    for make in makers if wrong is None else [*makers, maybe_signature]:
        with pytest.raises(WrongTypeError, match="made of a task, its name or the JSON form"):
            make(wrong)


@pytest.mark.parametrize("form", [{}, {"task": 5}, {"task": "a", "args": 5}, {"task": ""}])
def test_form_that_cannot_be_read_is_named(form):
    for place in (chain, group, a.link, a.on_error, signature, lambda given: a | given):
        with pytest.raises(DecodeError, match="signature"):
            place(form)


@pytest.mark.parametrize("wrong", NO_LISTS)
def test_arguments_must_be_a_list(flows, wrong):
    add = flows.tasks["add"]
    places = [
        lambda: Signature("a", wrong),
        lambda: a.clone(wrong),
        lambda: a.replace(args=wrong),
        lambda: add.s().apply_async(wrong),
        lambda: add.s().apply(wrong),
        lambda: group(add.s()).apply_async(wrong),
        lambda: chain(add.s(), add.s()).clone(wrong),
        lambda: chord([add.s()], add.s()).apply(wrong),
        lambda: add.apply_async(wrong),
        lambda: add.signature(wrong),
    ]
    for place in places:
        with pytest.raises(WrongTypeError, match=r"args must be a list or tuple, not .* write"):
            place()


@pytest.mark.parametrize("wrong", [5, "abc", [1], True])
def test_keyword_arguments_and_options_must_be_a_dict(flows, wrong):
    add = flows.tasks["add"]
    places = [
        lambda: Signature("a", kwargs=wrong),
        lambda: Signature("a", options=wrong),
        lambda: a.clone((), wrong),
        lambda: a.replace(kwargs=wrong),
        lambda: a.replace(options=wrong),
        lambda: add.s().apply_async((), wrong),
        lambda: group(add.s()).apply_async((), wrong),
        lambda: add.apply_async((), wrong),
    ]
    for place in places:
        with pytest.raises(WrongTypeError, match=r"(kwargs|options) must be a dict, not"):
            place()


def test_signature_is_sent_by_an_app():
    for place in (
        a.bound_to,
        lambda app: signature("a", app=app),
        lambda app: signature(a, app=app),
    ):
        with pytest.raises(
            WrongTypeError, match="an app is wanted, which sends the signature, not"
        ):
            place("redis://")
    assert a.bound_to(None) == a


@pytest.mark.parametrize("make", [xmap, xstarmap, lambda task, it: chunks(task, it, 2)])
def test_items_must_be_several(make):
    with pytest.raises(WrongTypeError, match="a list of items is wanted, not 5"):
        make(a, 5)


@pytest.mark.parametrize("item", [5, "ab", None, {"x": 1}])
def test_item_of_a_starmap_must_hold_arguments(item):
    for make in (xstarmap, lambda task, it: chunks(task, it, 2)):
        with pytest.raises(WrongTypeError, match="each item is a list or tuple of arguments, not"):
            make(a, [(1, 2), item])


def test_item_of_a_starmap_may_be_any_row():
    assert xstarmap(a, [(1, 2), [3], {4}]).kwargs["it"] == [(1, 2), [3], {4}]


@pytest.mark.parametrize("wrong", ["a", None, float("nan"), float("inf"), [], True])
def test_skew_takes_numbers(wrong):
    for given in ({"start": wrong}, {"step": wrong}, *([] if wrong is None else [{"stop": wrong}])):
        with pytest.raises(WrongTypeError, match=f"{next(iter(given))} must be a number, not"):
            group(a, b).skew(**given)


@pytest.mark.parametrize("wrong", [5, "abc", [], Returns, Signature("a")])
def test_stamp_takes_a_visitor(wrong):
    for each in (a, group(a), chain(a, b), chord([a], b)):
        with pytest.raises(WrongTypeError, match="takes a StampingVisitor, and stamps by name"):
            each.stamp(wrong)
        with pytest.raises(WrongTypeError, match="takes a StampingVisitor"):
            each.stamp_links(wrong)


@pytest.mark.parametrize("wrong", [5, "user", [5], [None]])
def test_names_of_stamps_are_a_list_of_text(wrong):
    with pytest.raises(WrongTypeError, match="stamped_headers must be a list of names"):
        a.stamp(stamped_headers=wrong)


@pytest.mark.parametrize("wrong", [5, "user", ["user"]])
def test_visitor_returns_stamps_by_name(wrong):
    with pytest.raises(WrongTypeError, match="stamps must be a dict of names and values, not"):
        chain(a, b).stamp(Returns(wrong))
