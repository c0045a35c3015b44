"""What signatures joined by ``|``, and by the functions that make several one, are made of."""

from __future__ import annotations

import pytest

from umbel import chain, chord, group
from umbel.canvas import Signature
from umbel.errors import InvalidTaskError

a, b, c, d = (Signature(name) for name in "abcd")
pair = group(a, b)
empty = group()


def shown(made):
    """Return what a composed signature is made of, as short text."""
    if isinstance(made, chain):
        return f"({' | '.join(map(shown, made.tasks))})"
    if isinstance(made, group):
        return f"[{', '.join(map(shown, made.tasks))}]"
    if isinstance(made, chord):
        return f"{shown(made.header)} -> {shown(made.body)}"
    return made.task


@pytest.mark.parametrize(
    "made, wanted",
    [
        (a | b, "(a | b)"),
        (a | b | c, "(a | b | c)"),
        (a | (b | c), "(a | b | c)"),
        (a | pair, "(a | [a, b])"),
        (a | chord(pair, c), "(a | [a, b] -> c)"),
        (a | empty, "a"),
        (chain(a, b) | empty, "(a | b)"),
        (chain(a, b) | chain(c, d), "(a | b | c | d)"),
        (chain(a) | b, "(a | b)"),
        (chain(a, pair) | c, "(a | [a, b] | c)"),
    ],
)
def test_can_06_what_follows_a_task_or_chain_is_its_next_step(made, wanted):
    assert shown(made) == wanted


@pytest.mark.parametrize("one", [a, chain(a), chain(a, b)])
def test_cfp_01_native_a_group_of_one_stays_a_group(one):
    made = one | group(c)

    assert isinstance(made, chain)
    assert shown(made).endswith(" | [c])")


@pytest.mark.parametrize("sig", [c, chain(c, d), chord(pair, c), group(c, d)])
def test_cfp_02_a_group_and_what_follows_it_are_a_chord(sig):
    made = pair | sig

    assert isinstance(made, chord)
    assert (made.header, made.body) == (pair, sig)


def test_cfp_02_a_group_and_an_empty_one_are_the_group_itself():
    assert (pair | empty) is pair


def test_cfp_02_an_empty_group_and_what_follows_it_are_a_chord():
    made = empty | c

    assert isinstance(made, chord)
    assert (len(made), made.body) == (0, c)


@pytest.mark.parametrize(
    "made, wanted",
    [
        (chord(pair, c) | d, "[a, b] -> (c | d)"),
        (chord(pair, c) | a | b, "[a, b] -> (c | a | b)"),
        (chord(pair, c) | pair, "[a, b] -> (c | [a, b])"),
        (chord(pair, c) | empty, "[a, b] -> c"),
        (chord(pair, c) | chain(a, b), "[a, b] -> (c | a | b)"),
        (chain(a, chord(pair, c)) | d, "(a | [a, b] -> (c | d))"),
        (chain(a, chord(pair, c)) | pair, "(a | [a, b] -> (c | [a, b]))"),
        (chord(pair, pair) | c, "[a, b] -> [a, b] -> c"),
    ],
)
def test_cfp_04_what_follows_a_chord_follows_its_body(made, wanted):
    assert shown(made) == wanted


def test_cfp_04_a_chord_without_a_body_has_nothing_to_go_on_from():
    with pytest.raises(InvalidTaskError, match="needs a body"):
        chord(pair) | c


@pytest.mark.parametrize(
    "made, wanted",
    [
        (chain(a, b), "(a | b)"),
        (chain([a, b]), "(a | b)"),
        (chain(each for each in (a, b)), "(a | b)"),
        (chain(a), "(a)"),
        (chain(a | b, c), "(a | b | c)"),
        (chain(chain(a, chain(b)), chain(), c), "(a | b | c)"),
        (chain(a, empty, b, group(empty)), "(a | b)"),
        (chain(), "()"),
    ],
)
def test_cfp_05_chains_in_a_chain_are_spliced_and_empty_groups_left_out(made, wanted):
    assert isinstance(made, chain)
    assert shown(made) == wanted


def test_can_08_groups_are_made_of_what_is_given():
    for made in (group(a, b), group([a, b]), group((a, b)), group(each for each in (a, b))):
        assert made.tasks == (a, b)
        assert len(made) == 2
    assert len(group()) == len(group([])) == 0
    assert group(group(a, b)).tasks == (pair,)
    assert bool(group())


def test_can_11_chords_are_made_of_what_is_given():
    wanted = chord(pair, c)

    for made in (chord([a, b], c), chord((each for each in (a, b)), c), chord(pair, body=c)):
        assert made == wanted
    assert chord(a, c).tasks == (a,)
    assert (chord(pair).body, chord(pair).tasks) == (None, (a, b))


@pytest.mark.parametrize("wrong", [5, "add", [1], None, [a, None]])
def test_what_is_no_signature_is_refused(wrong):
    for make in (chain, group, lambda given: chord(given, a)):
        with pytest.raises(InvalidTaskError):
            make(wrong)
    with pytest.raises(
        TypeError, match=r"a signature is wanted after \|, such as task.s\(\), not 5"
    ):
        a | 5


@pytest.mark.parametrize("left", [a, chain(a, b), pair, chord(pair, c), empty, chain()])
@pytest.mark.parametrize("right", [a, chain(a, b), pair, chord(pair, c), empty, chain()])
def test_can_06_forms_are_joined_as_what_they_are_forms_of(left, right):
    wanted = left | right

    assert left.to_dict() | right == left | right.to_dict() == wanted


def test_can_06_chains_keep_what_they_have_as_options():
    made = chain(a, b, queue="q", link=d, task_id="last") | c

    assert made.tasks == (a.set(queue="q"), b.set(link=[d], task_id="last"), c)


@pytest.mark.parametrize(
    "header, size",
    [
        ([a, b], 2),
        ([pair, c], 3),
        ([group(pair, pair)], 4),
        ([chain(a, b), c], 2),
        ([chain(a, pair)], 2),
        ([chain(a, pair, empty)], 2),
        ([chord(pair, c), d], 2),
        ([chord(pair, chain(c, pair))], 2),
        ([chord([a, b, c])], 1),
        ([], 0),
        ([empty, chain()], 0),
    ],
)
def test_cfp_09_the_size_of_a_chord_is_that_which_celery_counts(header, size):
    assert len(chord(header, a)) == size


# -- links --------------------------------------------------------------------------------------


def test_can_14_links_of_a_chord_are_those_of_its_body():
    made = chord([a, b], c).link(d)

    assert made == chord([a, b], c.link(d))


def test_can_14_errbacks_of_a_chord_are_those_of_its_body_and_all_members():
    inner = chord([a], b)
    made = chord([a, inner], c).link_error(d)

    assert made.body == c.link_error(d)
    assert made.tasks == (a.link_error(d), inner.link_error(d))
    assert made.tasks[1].tasks == (a.link_error(d),)


def test_cfp_08_errbacks_of_a_chain_are_those_of_all_steps_and_links_of_the_last():
    made = chain(a, chord([b], c)).link_error(d).link(d)
    first, last = made.unchain_tasks()

    assert first == a.link_error(d)
    assert last.options == {"link_error": [d], "link": [d]}


# -- groups that begin by and by ----------------------------------------------------------------


@pytest.mark.parametrize(
    "bounds, wanted",
    [
        ({}, [1, 2, 3, 4]),
        ({"start": 0, "step": 10}, [0, 10, 20, 30]),
        ({"start": 1, "stop": 2}, [1, 2, 2, 2]),
        ({"start": 0, "stop": 0.5, "step": 0.5}, [0, 0.5, 0.5, 0.5]),
    ],
)
def test_can_08_skew_has_members_begin_one_after_the_other(bounds, wanted):
    made = group(a, b, c, d).skew(**bounds)

    assert [each.options["countdown"] for each in made.tasks] == wanted


# -- many ---------------------------------------------------------------------------------------


def test_long_chains_are_the_same_in_whatever_way_they_are_made():
    steps = [Signature("add", (index,)) for index in range(1000)]
    joined = steps[0]
    for step in steps[1:]:
        joined |= step

    assert joined == chain(steps) == chain(*steps)
    assert joined.tasks == tuple(steps)


def test_large_groups_are_built_of_generators():
    made = group(Signature("add", (index,)) for index in range(10_000))

    assert len(made) == 10_000
    assert made.tasks[-1].args == (9999,)
