from __future__ import annotations

import re
from typing import Any, ClassVar

import pytest

from umbel.errors import ConfigError
from umbel.routing import Choice, Queue, Router, declared_queues, queue_bounds

DEFAULT = {"queue": "celery", "exchange": "", "routing_key": "celery"}


def to(queue: str, **options: Any) -> dict[str, Any]:
    return {**options, "queue": queue, "exchange": "", "routing_key": queue}


def router(**conf: Any) -> Router:
    return Router(conf)


def pick(
    name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **more: Any
) -> str | dict[str, Any] | None:
    """Route by argument; the tests name it by its dotted path."""
    if args and args[0] == "big":
        return {"queue": "big", "priority": 3}
    return "text" if name == "dyn" else None


class OldStyle:
    def route_for_task(self, name: str, args: Any = None, kwargs: Any = None) -> str | None:
        return "old" if name == "old" else None


class Exchange:
    def __init__(self, name: str, type: str) -> None:
        self.name, self.type = name, type


class KombuQueue:
    """Has what kombu's queues have."""

    def __init__(self, name: str, exchange: Exchange | None = None, routing_key: str = "") -> None:
        self.name, self.exchange, self.routing_key = name, exchange, routing_key


TABLE = {
    "a.b": "q1",
    "a.*": {"queue": "q2", "priority": 7},
    re.compile(r"(x|y)\.z"): {"queue": "q3"},
    "p.??": "q4",
    "ex": {"exchange": "E", "routing_key": "r.k"},
    "rk": {"routing_key": "k2"},
    "pri": {"priority": 4},
    "ser": {"serializer": "yaml", "expires": None},
}


class TestTable:
    @pytest.mark.parametrize(
        "name, expected",
        [
            ("a.b", to("q1")),
            ("a.c", to("q2", priority=7)),
            ("a.c.d", to("q2", priority=7)),
            ("x.z", to("q3")),
            ("x.zz", to("q3")),
            ("xx.z", DEFAULT),
            ("p.ab", to("q4")),
            ("p.abc", DEFAULT),
            ("pri", {**DEFAULT, "priority": 4}),
            ("ser", {**DEFAULT, "serializer": "yaml"}),
            ("ex", {"queue": "celery", "exchange": "E", "routing_key": "r.k"}),
            ("rk", DEFAULT),
            ("none", DEFAULT),
        ],
    )
    def test_names_globs_and_patterns(self, name: str, expected: dict[str, Any]) -> None:
        routes = router(task_routes=TABLE)

        assert routes.route(name) == expected
        assert routes.route(name) == expected  # as remembered

    def test_pairs(self) -> None:
        pairs = [("p.*", "q1"), (re.compile("x"), {"queue": "q2"})]

        assert router(task_routes=[pairs]).route("p.q") == to("q1")
        assert router(task_routes=pairs).route("x") == to("q2")

    def test_the_first_table_that_knows_the_task_wins(self) -> None:
        routes = router(task_routes=[{"a.*": "q1"}, {"a.b": "q2", "c": "q3"}])

        assert routes.route("a.b") == to("q1")
        assert routes.route("c") == to("q3")

    @pytest.mark.parametrize("given", [pick, f"{__name__}.pick", f"{__name__}:pick", [pick]])
    def test_functions(self, given: Any) -> None:
        routes = router(task_routes=given)

        assert routes.route("dyn") == to("text")
        assert routes.route("dyn", ("big",)) == to("big", priority=3)
        assert routes.route("other") == DEFAULT
        assert routes.route("other", ("big",)) == to("big", priority=3)

    @pytest.mark.parametrize("given", [OldStyle, OldStyle(), f"{__name__}.OldStyle"])
    def test_celerys_older_routers(self, given: Any) -> None:
        assert router(task_routes=[given]).route("old") == to("old")

    def test_a_table_before_a_function_spares_its_call(self) -> None:
        asked: list[str] = []

        def ask(name: str, *args: Any, **kwargs: Any) -> None:
            asked.append(name)

        routes = router(task_routes=[{"a": "q1"}, ask, {"b": "q2"}])

        assert (routes.route("a"), routes.route("b"), routes.route("b")) == (
            to("q1"),
            to("q2"),
            to("q2"),
        )
        assert asked == ["b", "b"]

    def test_a_function_is_told_of_the_call(self) -> None:
        told: list[Any] = []

        def tell(*args: Any, **kwargs: Any) -> None:
            told.append((args, kwargs))

        router(task_routes=tell).route("a", (1,), {"x": 2}, {"countdown": 3}, task="task")

        assert told == [(("a", (1,), {"x": 2}, {"countdown": 3}), {"task": "task"})]

    @pytest.mark.parametrize(
        "wrong, text",
        [
            ({"a": 5}, r"task_routes\['a'\] must give a queue"),
            ({"a": None}, "must give a queue"),
            ({"a": {"queue": ""}}, "must give a queue"),
            ({5: "q"}, "no task name: 5"),
            ({"a": {"priority": 256}}, "priority .* 0 to 255 .* not 256"),
            ({"a": {"priority": -1}}, "priority"),
            ({"a": {"priority": "high"}}, "priority"),
            ({"a": {"priority": True}}, "priority"),
            ([{}, {"a": 5}], r"task_routes\[1\]\['a'\]"),
            ([5], r"task_routes\[0\] must be a mapping"),
            ([["a", "b", "c"]], "must be pairs"),
            (5, "task_routes must be a mapping"),
        ],
    )
    def test_a_malformed_table_is_told_at_once(self, wrong: Any, text: str) -> None:
        with pytest.raises(ConfigError, match=text):
            router(task_routes=wrong)

    @pytest.mark.parametrize("path", ["nowhere.pick", f"{__name__}.nothing", "pick"])
    def test_a_function_that_cannot_be_imported(self, path: str) -> None:
        routes = router(task_routes=[path])

        with pytest.raises(ConfigError, match=re.escape(path)):
            routes.load()
        with pytest.raises(ConfigError, match=r"task_routes\[0\]"):
            routes.route("a")

    def test_a_function_that_answers_nonsense(self) -> None:
        with pytest.raises(ConfigError, match="lambda"):
            router(task_routes=lambda *_, **__: 5).route("a")


class TestMerging:
    @pytest.mark.parametrize("twice", [1, 2])
    @pytest.mark.parametrize(
        "name, options, expected",
        [
            ("a.c", {"queue": "mine"}, to("mine", priority=7)),
            ("a.c", {"priority": 1}, to("q2", priority=1)),
            ("a.c", {"priority": None, "queue": None}, to("q2", priority=7)),
            ("a.c", {"countdown": 5}, to("q2", priority=7, countdown=5)),
            ("a.c", {"exchange": "zz"}, to("q2", priority=7)),
            (
                "a.c",
                {"exchange": "e", "routing_key": "k"},
                {"queue": "q2", "exchange": "e", "routing_key": "k", "priority": 7},
            ),
            ("none", {"routing_key": "rr"}, DEFAULT),
            ("none", {"exchange": "ee"}, DEFAULT),
            ("none", {"queue": "q"}, to("q")),
            ("none", {"priority": 0}, {**DEFAULT, "priority": 0}),
            ("none", {"queue": KombuQueue("q")}, to("q")),
            ("ser", {"serializer": "json"}, {**DEFAULT, "serializer": "json"}),
        ],
    )
    def test_what_the_call_says_wins(
        self, name: str, options: dict[str, Any], expected: dict[str, Any], twice: int
    ) -> None:
        routes = router(task_routes=TABLE)
        for _ in range(twice):
            found = routes.route(name, (), {}, options)

        assert found == expected

    def test_the_callers_options_stay_as_they_are(self) -> None:
        routes, options = router(task_routes=TABLE), {"countdown": 5}

        routes.route("a.c", (), {}, options)
        routes.route("a.c", (), {}, options)

        assert options == {"countdown": 5}

    def test_what_is_returned_can_be_changed(self) -> None:
        routes = router(task_routes=TABLE)
        routes.route("a.c")

        routes.route("a.c")["queue"] = "mine"

        assert routes.route("a.c") == to("q2", priority=7)

    @pytest.mark.parametrize("priority", [256, -1, "5", 1.0, True])
    def test_a_priority_out_of_range_is_an_error(self, priority: Any) -> None:
        routes = router()
        routes.route("a")

        with pytest.raises(ConfigError, match=r"task 'a'.* 0 to 255"):
            routes.route("a", (), {}, {"priority": priority})

    def test_the_default_queue_is_a_setting(self) -> None:
        assert router(task_default_queue="mail").route("a") == to("mail")

    def test_many_names_are_all_routed(self) -> None:
        routes = router(task_routes={"a.*": "q1"})

        assert all(routes.route(f"a.{n}") == to("q1") for n in range(12_000))


class TestQueues:
    @pytest.mark.parametrize(
        "given",
        [
            ["celery", "slow"],
            ("celery", {"name": "slow"}),
            {"celery": None, "slow": {}},
            [KombuQueue("celery"), KombuQueue("slow")],
        ],
    )
    def test_forms_of_task_queues(self, given: Any) -> None:
        assert declared_queues(given) == {
            name: Queue(name=name, exchange=name, routing_key=name) for name in ("celery", "slow")
        }

    def test_no_queues(self) -> None:
        assert declared_queues(None) == {}

    def test_options_of_a_queue(self) -> None:
        queues = declared_queues(
            {"slow": {"exchange": "sx", "exchange_type": "topic", "routing_key": "s.#", "ttl": 5}}
        )

        assert queues["slow"] == Queue(
            name="slow",
            exchange="sx",
            exchange_type="topic",
            routing_key="s.#",
            options={"ttl": 5},
        )

    def test_queues_of_kombu(self) -> None:
        queues = declared_queues([KombuQueue("slow", Exchange("sx", "topic"), "s.#")])

        assert queues["slow"] == Queue(
            name="slow", exchange="sx", exchange_type="topic", routing_key="s.#"
        )

    def test_defaults_for_what_a_queue_leaves_out(self) -> None:
        queues = declared_queues(["a"], default_exchange="dx", default_routing_key="dk")

        assert (queues["a"].exchange, queues["a"].routing_key) == ("dx", "dk")

    @pytest.mark.parametrize("wrong", ["celery", [5], [{}], {"a": "b"}, ["a", "a"], [""]])
    def test_malformed_queues(self, wrong: Any) -> None:
        with pytest.raises(ConfigError, match="task_queues"):
            declared_queues(wrong)

    def test_a_direct_queue_is_addressed_by_name(self) -> None:
        queues = {"dir": {"exchange": "dx", "routing_key": "dk"}}

        assert router(task_queues=queues).route("a", (), {}, {"queue": "dir"}) == to("dir")

    def test_a_topic_queue_is_addressed_through_its_exchange(self) -> None:
        topic = {"slow": {"exchange": "sx", "exchange_type": "topic", "routing_key": "s.#"}}
        routes = router(task_queues=topic, task_routes={"a": "slow"})

        assert routes.route("a") == {"queue": "slow", "exchange": "sx", "routing_key": "s.#"}
        assert routes.route("a", (), {}, {"routing_key": "s.x"})["routing_key"] == "s.x"

    def test_exchange_and_key_find_the_queue_bound_to_them(self) -> None:
        routes = router(task_queues={"dir": {"exchange": "dx", "routing_key": "dk"}})

        found = routes.route("a", (), {}, {"exchange": "dx", "routing_key": "dk"})

        assert found == {"queue": "dir", "exchange": "dx", "routing_key": "dk"}


class TestMissingQueues:
    CONF: ClassVar[dict[str, Any]] = {
        "task_create_missing_queues": False,
        "task_queues": ["celery", "slow"],
    }

    def test_they_may_be_used_unless_told_otherwise(self) -> None:
        assert router(task_queues=["slow"]).route("a", (), {}, {"queue": "new"}) == to("new")

    def test_a_call_may_not_name_one(self) -> None:
        routes = router(**self.CONF)

        assert routes.route("a", (), {}, {"queue": "slow"}) == to("slow")
        with pytest.raises(ConfigError, match=r"'slwo'.* did you mean 'slow'"):
            routes.route("a", (), {}, {"queue": "slwo"})

    def test_a_table_may_not_name_one(self) -> None:
        with pytest.raises(ConfigError, match=r"'slwo', which task_routes\['a'\] names"):
            router(**self.CONF, task_routes={"a": "slwo"})

    def test_a_function_may_not_name_one(self) -> None:
        with pytest.raises(ConfigError, match="'big'"):
            router(**self.CONF, task_routes=pick).route("a", ("big",))

    def test_the_default_queue_must_be_declared(self) -> None:
        with pytest.raises(ConfigError, match="'mail', which task_default_queue names"):
            router(**self.CONF, task_default_queue="mail")

    def test_without_declared_queues_only_the_default_one_is_there(self) -> None:
        routes = router(task_create_missing_queues=False)

        assert routes.route("a") == DEFAULT
        with pytest.raises(ConfigError, match="declared: celery"):
            routes.route("a", (), {}, {"queue": "slow"})


class TestSelect:
    @pytest.mark.parametrize(
        "conf, names, exclude, expected",
        [
            ({}, (), (), ("celery",)),
            ({"task_default_queue": "mail"}, (), (), ("mail",)),
            ({"task_queues": ["b", "a"]}, (), (), ("b", "a")),
            ({"task_queues": ["b", "a"]}, ("x", "a", "x"), (), ("x", "a")),
            ({"task_queues": ["b", "a"]}, (), ("b",), ("a",)),
        ],
    )
    def test_what_a_worker_consumes(
        self, conf: Any, names: Any, exclude: Any, expected: Any
    ) -> None:
        assert router(**conf).select(names, exclude) == expected

    def test_an_unknown_queue_is_an_error_where_none_may_be_made(self) -> None:
        routes = router(task_queues=["celery"], task_create_missing_queues=False)

        with pytest.raises(ConfigError, match="did you mean 'celery'"):
            routes.select(["celrey"])


class TestExplain:
    def test_defaults(self) -> None:
        assert router(task_default_priority=5).explain("a") == {
            "priority": Choice(5, "task_default_priority"),
            "queue": Choice("celery", "task_default_queue"),
            "exchange": Choice("", "queue 'celery' is addressed directly"),
            "routing_key": Choice("celery", "queue 'celery' is addressed directly"),
        }

    def test_the_winner_is_named_with_those_it_won_over(self) -> None:
        routes = router(task_routes=TABLE, task_default_priority=5)

        found = routes.explain(
            "a.c", options={"queue": "mine"}, task_options={"queue": "its own", "priority": None}
        )

        assert found["queue"] == Choice(
            "mine",
            "the call",
            (Choice("its own", "the task"), Choice("q2", "task_routes['a.*']")),
        )
        assert found["priority"] == Choice(
            7, "task_routes['a.*']", (Choice(5, "task_default_priority"),)
        )

    def test_functions_and_patterns_are_named(self) -> None:
        routes = router(task_routes=[TABLE, pick, f"{__name__}.pick"])

        assert routes.explain("x.z")["queue"].source == r"task_routes[0][(x|y)\.z]"
        assert routes.explain("dyn")["queue"].source == "task_routes[1] (pick)"

    def test_a_binding_is_named(self) -> None:
        routes = router(task_queues={"dir": {"exchange": "dx", "routing_key": "dk"}})

        found = routes.explain("a", options={"exchange": "dx", "routing_key": "dk"})

        assert found["queue"] == Choice("dir", "task_queues binds it to exchange 'dx' and key 'dk'")
        assert found["exchange"] == Choice("dx", "the call")

    @pytest.mark.parametrize("name", ["a.b", "a.c", "x.z", "ex", "rk", "pri", "none", "dyn"])
    @pytest.mark.parametrize("options", [{}, {"queue": "mine"}, {"exchange": "e"}])
    def test_it_says_what_route_does(self, name: str, options: dict[str, Any]) -> None:
        routes = router(task_routes=[TABLE, pick])

        explained = routes.explain(name, options=options)

        assert {key: choice.value for key, choice in explained.items()} == routes.route(
            name, (), {}, options
        )


# -- queues with a bound ----------------------------------------------------------------------


def test_queue_may_be_declared_by_its_class():
    queues = declared_queues([Queue("mail", max_length=5, overflow="block"), Queue("other")])

    assert (queues["mail"].max_length, queues["mail"].overflow) == (5, "block")
    assert (queues["mail"].exchange, queues["mail"].routing_key) == ("mail", "mail")
    assert (queues["other"].max_length, queues["other"].overflow) == (None, "raise")


def test_queue_may_be_declared_under_its_name():
    queues = declared_queues({"mail": Queue("mail", max_length=5), "other": {"max_length": 2}})

    assert {name: queue.max_length for name, queue in queues.items()} == {"mail": 5, "other": 2}


def test_bounds_are_those_of_the_queues_that_have_one():
    assert queue_bounds([Queue("mail", max_length=5), "other", {"name": "x", "max_length": 1}]) == {
        "mail": 5,
        "x": 1,
    }
    assert queue_bounds(None) == {}


@pytest.mark.parametrize("given", [0, -1, True, "many", 1.5])
def test_wrong_max_length_is_an_error_that_names_queue_and_value(given):
    with pytest.raises(ConfigError, match=rf"max_length of queue 'mail' .* not {given!r}"):
        declared_queues({"mail": {"max_length": given}})


def test_wrong_overflow_is_an_error_that_names_the_words():
    with pytest.raises(ConfigError, match=r"queue 'mail' .* 'raise' or 'block', not 'drop'"):
        declared_queues([Queue("mail", max_length=5, overflow="drop")])


def test_overflow_without_a_bound_is_an_error():
    with pytest.raises(ConfigError, match=r"queue 'mail' .* no max_length"):
        declared_queues([Queue("mail", overflow="block")])
