"""Every hook is called, with the arguments that it says, by real processes.

One plugin implements all events and writes down what it hears; a worker is taken through all that
can happen to it. A new hook fails here until the story below makes it happen.
"""

from __future__ import annotations

import inspect
import json
from collections import defaultdict
from collections.abc import Mapping

import pytest
from project import Project, wait_for

from umbel import Umbel, hookspecs
from umbel.messages import Message
from umbel.plugins import Kind, PluginManager

HOOKS: Mapping[str, inspect.Signature] = {
    name: inspect.signature(value)
    for name, value in vars(hookspecs).items()
    if name.startswith("umbel_") and inspect.isfunction(value)
}
OFFERS = sorted(kind.hook for kind in Kind)
EVENTS = sorted(HOOKS.keys() - OFFERS)

#: What an argument is, by its name: names of types.
KINDS = {
    "app": {"Umbel"},
    "delivery": {"Delivery"},
    "error": {"ErrorInfo"},
    "exception": {"ValueError", "RuntimeError", "ZeroDivisionError", "NoneType"},
    "exitcode": {"int", "NoneType"},
    "how": {"str"},
    "index": {"int"},
    "message": {"Message"},
    "name": {"str"},
    "outcome": {"Success", "Failure", "Retry", "Rejected"},
    "reason": {"str"},
    "request": {"Request"},
    "value": {"str", "int", "ValueError", "ZeroDivisionError", "Retry", "Reject", "NoneType"},
    "worker": {"Worker"},
}

PLUGIN = '''
import inspect, json, os
from umbel import hookimpl, hookspecs

_heard = os.open(os.environ["HEARD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


class Listener:
    """Implements every event."""


def listener(name, words):
    def note(given):
        said = {word: [type(value).__name__, repr(value)] for word, value in given.items()}
        os.write(_heard, json.dumps([name, os.getpid(), said]).encode() + b"\\n")

    space = {"note": note}
    exec(f"def {name}({', '.join(words)}): note(locals())", space)
    return staticmethod(hookimpl(space[name]))


for name, hook in vars(hookspecs).items():
    if name in EVENTS:
        setattr(Listener, name, listener(name, inspect.signature(hook).parameters))
'''

TASKS = """
import os, time
from umbel import Reject, Task, Umbel
from umbel.plugins import PluginManager

app = Umbel("tasks", plugins=PluginManager([Listener()]), task_dead_letter="never", **SETTINGS)


class Fussy(Task):
    def on_success(self, *args):
        raise RuntimeError("a handler of the user's")


@app.task
def fine():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return "fine"


@app.task
def sender():
    fine.apply_async(countdown=3600)
    return "sent"


@app.task
def failing():
    raise ZeroDivisionError("of the test")


@app.task(bind=True, max_retries=1, default_retry_delay=0.01)
def again(self):
    if not self.request.retries:
        raise self.retry(exc=ValueError("once more"))
    return 2


@app.task
def refusing():
    raise Reject("not this one", requeue=False)


@app.task(base=Fussy)
def fussy():
    return "done"
"""


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """Return what the plugin has heard in the story: hook → its calls' arguments."""
    folder = tmp_path_factory.mktemp("hooks")
    project, heard_path = Project(folder / "project"), folder / "heard"
    source = f"EVENTS, SETTINGS = {EVENTS!r}, {project.settings!r}\n{PLUGIN}\n{TASKS}"
    (project.folder / "tasks.py").write_text(source)
    environment = project.environment()
    project.environment = lambda: {**environment, "HEARD": str(heard_path)}

    def read():
        found = defaultdict(list)
        for line in heard_path.read_text().splitlines() if heard_path.exists() else ():
            name, _pid, said = json.loads(line)
            found[name].append(said)
        return found

    app = Umbel("client", **project.settings)
    try:
        revoked = app.send_task("tasks.fine")
        app.control.revoke(revoked.id)
        names = ("fine", "sender", "failing", "again", "refusing", "fussy")
        for name in names:
            app.send_task(f"tasks.{name}")
        app.broker.send(
            [Message(id="u", task="no.such", headers={"id": "u", "task": "no.such"}, body=b"[]")]
        )
        worker = project.worker("--pool", "process", "-c", "1")
        ends_at_stop = {
            "umbel_worker_stopping", "umbel_worker_stopped", "umbel_process_stopped",
        }  # fmt: skip
        expected = set(EVENTS) - ends_at_stop
        wait_for(
            lambda: expected <= read().keys() and len(read()["umbel_task_finished"]) >= 6,
            60,
            lambda: f"not heard: {expected - read().keys()}\n{worker.tell()}",
        )
        assert worker.stop() == 0
        yield read()
    finally:
        app.close()
        project.close()


@pytest.mark.parametrize("hook", EVENTS)
def test_event_is_told_with_its_arguments(heard, hook):
    calls = heard.get(hook, [])
    words = set(HOOKS[hook].parameters)

    assert calls, f"nobody heard {hook}: make it happen in the story of this module"
    for said in calls:
        assert set(said) == words
        for word, (kind, shown) in said.items():
            if word == "task":
                is_name = hook.startswith("umbel_message_")
                assert shown.startswith("'tasks.") if is_name else "tasks." in shown
            else:
                assert kind in KINDS[word], f"{hook}: {word} is {shown}"


def test_events_tell_what_happened(heard):
    def said(hook, word):
        return [call[word][1] for call in heard[hook]]

    assert "'fine'" in said("umbel_task_succeeded", "value")
    assert any("of the test" in text for text in said("umbel_task_failed", "exception"))
    assert any("once more" in text for text in said("umbel_task_retried", "error"))
    assert said("umbel_task_revoked", "reason") == ["'revoked'"]
    assert any("not this one" in text for text in said("umbel_task_rejected", "reason"))
    assert set(said("umbel_task_unknown", "name")) == {"'no.such'"}
    assert any(
        "a handler of the user's" in text for text in said("umbel_task_internal_error", "exception")
    )
    assert said("umbel_worker_stopping", "how") == ["'warm'"]
    assert said("umbel_process_stopped", "exitcode")[0] == "None"


# -- offers ---------------------------------------------------------------------------------------


class Offered:
    """Stands for whatever is offered."""

    name = "offered"


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.hook)
def test_offer_is_asked_for_and_found(kind):
    asked = []

    def offer():
        asked.append(kind)
        is_list = kind in (Kind.SERIALIZER, Kind.POOL, Kind.SETTING)
        return [Offered] if is_list else {"offered": Offered}

    offer.__name__ = kind.hook
    plugin = type("Plugin", (), {kind.hook: staticmethod(hookspecs.hookimpl(offer))})()
    plugins = PluginManager([plugin], installed=False)

    assert plugins.offer(kind, "offered") is Offered
    assert plugins.offer(kind, "offered") is Offered
    assert asked == [kind]
