from __future__ import annotations

import json
import math
import os
import socket
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from umbel import group
from umbel.builtin.json_serializer import JsonSerializer
from umbel.clock import to_iso
from umbel.errors import EncodeError, InvalidTaskError
from umbel.publishing.drafts import (
    RESERVED_HEADERS,
    SendDefaults,
    build_message,
    default_origin,
    draft_message,
    instant,
)
from umbel.requests import Request
from umbel.signatures import Signature

PARENT = Request(
    id="p1",
    task="proj.parent",
    root_id="r1",
    called_directly=False,
    delivery_info={"priority": 7},
    hostname="w1@host",
)


BODY = Signature("proj.body").to_dict()


@pytest.fixture
def build(clock):
    """Returns the message of a call."""

    def build(args=(), kwargs=None, options=None, *, name="proj.add", **how):
        how.setdefault("serializer", JsonSerializer())
        return build_message(
            name,
            args,
            kwargs or {},
            options or {},
            clock=clock,
            new_id=lambda: "id-1",
            origin="gen1@host",
            **how,
        )

    return build


@pytest.fixture
def now(clock):
    return clock.time()


def test_message_without_options_is_celerys_protocol_2(build):
    message = build((2, 3))

    assert message.headers == {
        "lang": "py",
        "task": "proj.add",
        "id": "id-1",
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": "id-1",
        "parent_id": None,
        "argsrepr": "(2, 3)",
        "kwargsrepr": "{}",
        "origin": "gen1@host",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    assert json.loads(message.body) == [
        [2, 3],
        {},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert (message.id, message.task) == ("id-1", "proj.add")
    assert (message.queue, message.exchange, message.routing_key) == ("celery", "", "celery")
    assert (message.priority, message.delivery_mode) == (0, 2)
    assert (message.due_at, message.expires_at) == (None, None)


def test_header_names_are_those_that_are_reserved(build):
    options = {
        "compression": "gzip",
        "ignore_result": False,
        "meta": {"a": 1},
        "umbel_counted": True,
        "umbel_results": "key",
        "chain": [Signature("proj.next", options={"task_id": "id-2"})],
    }
    headers = build(options=options, compression="gzip").headers

    assert headers.keys() == RESERVED_HEADERS


def test_no_two_messages_share_what_can_be_changed(build):
    one, other = build(), build()

    one.headers["stamps"]["x"] = 1
    one.headers["timelimit"][0] = 5
    assert other.headers["stamps"] == {}
    assert other.headers["timelimit"] == [None, None]


def test_countdown_is_made_absolute(build, now):
    message = build(options={"countdown": 60})

    assert message.due_at == now + 60
    assert message.headers["eta"] == to_iso(now + 60)


def test_countdown_wins_over_eta(build, now):
    message = build(options={"countdown": 1, "eta": datetime(2031, 1, 1, tzinfo=UTC)})

    assert message.due_at == now + 1


@pytest.mark.parametrize(
    "eta",
    [
        datetime(2031, 5, 1, 12, tzinfo=UTC),
        datetime(2031, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))),
        datetime(2031, 5, 1, 12),  # noqa: DTZ001 - that is the point
        "2031-05-01T12:00:00+00:00",
        "2031-05-01T12:00:00",
    ],
)
def test_eta_is_utc_in_the_message(build, eta):
    message = build(options={"eta": eta})

    assert message.headers["eta"] == "2031-05-01T12:00:00+00:00"
    assert message.due_at == datetime(2031, 5, 1, 12, tzinfo=UTC).timestamp()


def test_eta_without_zone_is_in_the_apps_zone(build):
    message = build(
        options={"eta": datetime(2031, 7, 1, 12)},  # noqa: DTZ001 - that is the point
        zone=ZoneInfo("Europe/Berlin"),
    )

    assert message.headers["eta"] == "2031-07-01T10:00:00+00:00"


@pytest.mark.parametrize("expires", [120, 120.0, timedelta(minutes=2)])
def test_expires_in_seconds_is_made_absolute(build, now, expires):
    message = build(options={"expires": expires})

    assert message.expires_at == now + 120
    assert message.headers["expires"] == to_iso(now + 120)


def test_expires_of_the_task_holds_where_the_call_says_nothing(build, now):
    defaults = SendDefaults(expires=300)

    assert build(defaults=defaults).expires_at == now + 300
    assert build(options={"expires": 5}, defaults=defaults).expires_at == now + 5


@pytest.mark.parametrize(
    "options, text",
    [
        ({"countdown": "soon"}, "countdown"),
        ({"countdown": math.nan}, "countdown must be seconds, not nan"),
        ({"countdown": math.inf}, "countdown must be seconds, not inf"),
        ({"countdown": True}, "countdown must be seconds, not True"),
        ({"eta": 60}, "seconds from now are countdown="),
        ({"eta": "tomorrow"}, "eta isn't an ISO 8601 time: 'tomorrow'"),
        ({"expires": object()}, "expires must be seconds"),
        ({"time_limit": "1"}, "time_limit must be seconds"),
        ({"task_id": 7}, "task_id must be text, not 7"),
        ({"priority": 256}, "priority must be 0 to 255, not 256"),
        ({"priority": -1}, "priority must be 0 to 255, not -1"),
        ({"priority": "high"}, "priority must be 0 to 255, not 'high'"),
        ({"queue": ""}, "queue must be a name"),
        ({"queue": 3}, "queue must be a name, not 3"),
        ({"link": "proj.add"}, "link must be signatures"),
        ({"countdwon": 3}, "no option 'countdwon'; did you mean 'countdown'?"),
    ],
)
def test_wrong_option_is_named(build, options, text):
    with pytest.raises(InvalidTaskError, match=text) as caught:
        build(options=options)

    assert "'proj.add'" in str(caught.value)


def test_time_limits_travel_hard_one_first(build):
    message = build(options={"time_limit": 30, "soft_time_limit": 20})

    assert message.headers["timelimit"] == [30, 20]


def test_queue_is_addressed_directly(build):
    message = build(options={"queue": "slow"})

    assert (message.queue, message.exchange, message.routing_key) == ("slow", "", "slow")


def test_exchange_and_key_are_kept_beside_the_queue(build):
    message = build(options={"queue": "q", "exchange": "x", "routing_key": "k"})

    assert (message.queue, message.exchange, message.routing_key) == ("q", "x", "k")


@pytest.mark.parametrize(
    "given, mode", [(1, 1), (2, 2), ("transient", 1), ("persistent", 2), (None, 2)]
)
def test_delivery_mode_is_a_number_or_a_word(build, given, mode):
    assert build(options={"delivery_mode": given}).delivery_mode == mode


def test_plain_options_become_headers(build):
    headers = build(
        options={
            "shadow": "short",
            "group_id": "g",
            "group_index": 3,
            "retries": 2,
            "root_id": "root",
            "parent_id": "parent",
            "argsrepr": "(secret)",
            "kwargsrepr": "{secret}",
            "ignore_result": True,
            "replaced_task_nesting": 1,
        }
    ).headers

    assert headers["shadow"] == "short"
    assert (headers["group"], headers["group_index"]) == ("g", 3)
    assert headers["retries"] == 2
    assert (headers["root_id"], headers["parent_id"]) == ("root", "parent")
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("(secret)", "{secret}")
    assert headers["ignore_result"] is True
    assert headers["replaced_task_nesting"] == 1


def test_given_task_id_is_the_messages(build):
    message = build(options={"task_id": "mine"})

    assert (message.id, message.headers["id"], message.headers["root_id"]) == ("mine",) * 3


def test_links_travel_as_signatures(build):
    link = Signature(task="proj.log", args=(1,), options={"queue": "q"})
    foreign = {"task": "proj.other", "args": [], "kwargs": {}, "chord_size": None}

    embed = json.loads(build(options={"link": link, "link_error": [link, foreign]}).body)[2]

    assert embed["callbacks"] == [link.to_dict()]
    assert [each["task"] for each in embed["errbacks"]] == ["proj.log", "proj.other"]
    assert embed["errbacks"][1]["chord_size"] is None


@pytest.mark.parametrize("nothing", [None, [], ()])
def test_no_links_are_null(build, nothing):
    assert json.loads(build(options={"link": nothing}).body)[2]["callbacks"] is None


def test_chain_and_chord_travel_in_the_embed(build):
    step, body = Signature(task="proj.next"), Signature(task="proj.sum")

    embed = json.loads(build(options={"chain": [step], "chord": body}).body)[2]

    assert embed["chain"] == [step.to_dict()]
    assert embed["chord"] == body.to_dict()


def test_own_headers_lie_flat_among_the_protocols(build):
    assert build(options={"headers": {"my": "hdr"}}).headers["my"] == "hdr"


@pytest.mark.parametrize("name", sorted(RESERVED_HEADERS))
def test_own_header_with_a_reserved_name_is_refused(build, name):
    with pytest.raises(InvalidTaskError, match=f"header '{name}' is the protocol's own"):
        build(options={"headers": {name: 1}})


def test_stamps_are_options_named_in_stamped_headers(build):
    headers = build(options={"stamped_headers": ["tag"], "tag": "x"}).headers

    assert headers["stamped_headers"] == ["tag"]
    assert headers["stamps"] == {"tag": "x"}


def test_stamps_may_be_given_together(build):
    headers = build(options={"stamps": {"a": 1, "b": [2]}}).headers

    assert headers["stamped_headers"] == ["a", "b"]
    assert headers["stamps"] == {"a": 1, "b": [2]}


def test_parent_gives_root_and_parent_id(build):
    headers = build(parent=PARENT).headers

    assert (headers["root_id"], headers["parent_id"]) == ("r1", "p1")


def test_task_called_as_a_function_sends_for_the_one_that_called_it(build):
    inner = Request(task="proj.inner", root_id="r1", parent_id="p1")

    headers = build(parent=inner).headers

    assert (headers["root_id"], headers["parent_id"]) == ("r1", "p1")


def test_priority_is_inherited_where_asked_for(build):
    assert build(parent=PARENT).priority == 0
    assert build(parent=PARENT, inherit_priority=True).priority == 7
    assert build(options={"priority": 1}, parent=PARENT, inherit_priority=True).priority == 1


def test_compressed_body_names_its_compression(build):
    plain, small = build((["x" * 1000],)), build((["x" * 1000],), compression="gzip")

    assert small.headers["compression"] == "application/x-gzip"
    assert len(small.body) < len(plain.body)
    assert "compression" not in plain.headers


@pytest.mark.parametrize(
    "args, kwargs, where",
    [((1, {2: object()}), {}, r"args\[1\]\[2\]"), ((), {"x": [object()]}, r"kwargs\['x'\]\[0\]")],
)
def test_argument_that_cant_be_encoded_is_named_with_its_task(build, args, kwargs, where):
    with pytest.raises(EncodeError, match=rf"task 'proj\.add' can't be sent: {where} is of type"):
        build(args, kwargs)


def test_listeners_change_the_draft_before_it_is_encoded(build):
    def change(draft):
        draft.args = [*draft.args, 4]
        draft.headers["seen"] = True

    message = build((2, 3), listeners=[change])

    assert json.loads(message.body)[0] == [2, 3, 4]
    assert message.headers["seen"] is True


def test_arguments_are_shown_shortened(build):
    headers = build(("x" * 5000,), {"y": ["z"] * 5000}).headers

    assert len(headers["argsrepr"]) <= 1024
    assert len(headers["kwargsrepr"]) <= 1024


def test_draft_looks_at_no_clock_where_no_time_is_asked_for():
    draft = draft_message("t", (), {}, {}, clock=None, new_id=lambda: "1", origin="o")

    assert draft.headers["eta"] is None


def test_instant_of_a_timedelta_counts_from_now(clock):
    assert instant("t", "expires", timedelta(seconds=5), clock) == clock.time() + 5


def test_origin_is_this_process():
    assert default_origin() == f"gen{os.getpid()}@{socket.gethostname()}"


@pytest.mark.parametrize(
    "last, ends",
    [
        ({"task_id": "z"}, ["z"]),
        (
            {"task_id": "z", "group_id": "g", "group_index": 1, "umbel_counted": True},
            ["z", "g", 1, True],
        ),
        ({"task_id": "z", "group_id": "g", "group_index": 1, "chord": BODY}, ["z", "g", 1, False]),
    ],
)
def test_each_message_of_a_chain_tells_how_it_ends(build, last, ends):
    chain = [Signature("proj.last", options=last), Signature("proj.next")]
    assert build(options={"chain": chain}).headers["umbel_ends"] == ends


def test_chain_that_ends_with_a_group_or_without_an_id_tells_of_no_end(build):
    for last in (group(Signature("proj.a"), Signature("proj.b")), Signature("proj.last")):
        assert "umbel_ends" not in build(options={"chain": [last]}).headers
