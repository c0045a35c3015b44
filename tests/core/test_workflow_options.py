"""Options of all parts of a workflow are looked at before any of it is sent."""

from __future__ import annotations

import pytest

from umbel import chain, chord, group, signature
from umbel.errors import InvalidTaskError
from umbel.workflow_options import check_options


def call(**options):
    return signature("proj.t", options=options)


WRONG = call(quue="slow")
PLACES = {
    "call": WRONG,
    "later step": chain(call(), WRONG),
    "member": group(call(), WRONG),
    "member of a header": chord([call(), WRONG], call()),
    "body": chord([call()], WRONG),
    "step in a body": chord([call()], chain(call(), WRONG)),
    "callback": chain(call(), call().link(WRONG)),
    "errback of a group": group(call()).on_error(WRONG),
    "whole chain": chain(call(), call(), quue="slow"),
    "whole header": chord(group(call(), quue="slow"), call()),
    "whole chord": chord([call()], call(), quue="slow"),
}


@pytest.mark.parametrize("place", PLACES)
def test_misspelt_option_is_found_in_any_place(place):
    with pytest.raises(InvalidTaskError, match="no option 'quue'; did you mean 'queue'"):
        check_options(PLACES[place])


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
