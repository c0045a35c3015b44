"""Options of all parts of a workflow are looked at before any of it is sent."""

from __future__ import annotations

import pytest

from umbel import chain, chord, group, signature
from umbel.errors import InvalidTaskError
from umbel.workflow_options import check_options


def call(**options):
    return signature("proj.t", options=options)


def places(**wrong):
    """Return workflows that have options in one place each."""
    bad = call(**wrong)
    return {
        "call": bad,
        "later step": chain(call(), bad),
        "member": group(call(), bad),
        "member of a header": chord([call(), bad], call()),
        "body": chord([call()], bad),
        "step in a body": chord([call()], chain(call(), bad)),
        "callback": chain(call(), call().link(bad)),
        "errback of a group": group(call()).on_error(bad),
        "whole chain": chain(call(), call(), **wrong),
        "whole header": chord(group(call(), **wrong), call()),
        "whole chord": chord([call()], call(), **wrong),
    }


WRONG = call(quue="slow")
PLACES = list(places())


@pytest.mark.parametrize("place", PLACES)
def test_misspelt_option_is_found_in_any_place(place):
    with pytest.raises(InvalidTaskError, match="no option 'quue'; did you mean 'queue'"):
        check_options(places(quue="slow")[place])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "wrong, text",
    [
        ({"countdown": "soon"}, "countdown isn't an ISO 8601 time: 'soon'"),
        ({"countdown": float("nan")}, "countdown must be seconds, not nan"),
        ({"headers": ["x"]}, "headers must be a dict with keys of text, not"),
        ({"link": [5]}, r"link must be signatures, such as other.s\(\), not 5"),
        ({"link_error": {}}, "link_error can't be read: a signature's 'task' must be a name"),
    ],
)
def test_wrong_value_is_found_in_any_place(place, wrong, text):
    with pytest.raises(InvalidTaskError, match=text):
        check_options(places(**wrong)[place])


@pytest.mark.parametrize(
    "sig",
    [
        chord([call(queue="q")], call(countdown=1), on_failure="collect").on_error(call()),
        chain(call(), group(call(), call())).stamp(customer=7),
        chain(call(), call()).link(call(queue="q")),
        group(call()).set(link=[WRONG.to_dict()]),
    ],
    ids=["chord", "stamps", "links", "form of another maker"],
)
def test_what_a_send_has_is_passed(sig):
    check_options(sig)


def test_workflow_with_a_misspelt_option_is_not_sent(app, waiting):
    workflow = chain(call(), WRONG).bound_to(app)

    for send in (workflow.delay, workflow.apply):
        with pytest.raises(InvalidTaskError, match="'quue'"):
            send()
    assert waiting(app, "celery") == []


def test_workflow_with_a_wrong_value_further_down_is_not_sent(app, waiting):
    workflow = chord([call()], call() | call(countdown="soon")).bound_to(app)

    for send in (workflow.delay, workflow.apply):
        with pytest.raises(InvalidTaskError, match="countdown isn't an ISO 8601 time: 'soon'"):
            send()
    assert waiting(app, "celery") == []
