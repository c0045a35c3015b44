from __future__ import annotations

import asyncio
import gc
import subprocess
import sys

import pytest

from umbel import signals
from umbel.signals import EVERY_APP, SIGNALS, Signal, Signals


@pytest.fixture
def signal():
    """A signal whose retries don't sleep."""
    return Signal("task_sample", ("x",), sleep=lambda seconds: None)


def test_every_signal_is_an_attribute_of_module_and_app():
    assert {each.name for each in Signals()} == set(SIGNALS)
    for name in SIGNALS:
        if not name.startswith("on_"):
            assert getattr(signals, name) is getattr(EVERY_APP, name)
        assert getattr(EVERY_APP, name).providing_args == SIGNALS[name]


def test_receiver_gets_signal_sender_and_arguments(signal):
    heard = []

    def receiver(**named):
        heard.append(named)
        return "answer"

    signal.connect(receiver)

    assert signal.send("who", x=1) == [(receiver, "answer")]
    assert heard == [{"signal": signal, "sender": "who", "x": 1}]


def test_connect_is_a_decorator_bare_and_with_options(signal):
    @signal.connect
    def bare(**named):
        return "bare"

    @signal.connect(sender="who")
    def with_options(**named):
        return "options"

    assert signal.receivers == [bare, with_options]
    assert [answer for _, answer in signal.send("who")] == ["bare", "options"]
    assert [answer for _, answer in signal.send("other")] == ["bare"]


def test_receiver_is_connected_once(signal):
    def receiver(**named):
        return 1

    signal.connect(receiver)
    signal.connect(receiver)

    assert len(signal.send(None)) == 1


def test_receiver_may_be_connected_for_several_senders(signal):
    def receiver(sender, **named):
        return sender

    signal.connect(receiver, sender="one")
    signal.connect(receiver, sender="two")

    assert signal.send("one") == [(receiver, "one")]
    assert signal.send("two") == [(receiver, "two")]


def test_dispatch_uid_stands_for_the_receiver(signal):
    signal.connect(lambda **named: 1, weak=False, dispatch_uid="mine")
    signal.connect(lambda **named: 2, weak=False, dispatch_uid="mine")

    assert [answer for _, answer in signal.send(None)] == [1]
    assert signal.disconnect(dispatch_uid="mine")
    assert signal.send(None) == []


def test_disconnected_receiver_hears_nothing(signal):
    def receiver(**named):
        return 1

    signal.connect(receiver)

    assert signal.disconnect(receiver) is True
    assert signal.disconnect(receiver) is False
    assert signal.send(None) == []


def test_receiver_that_nobody_holds_is_gone(signal):
    signal.connect(lambda **named: 1)
    gc.collect()

    assert signal.receivers == []
    assert not signal.has_listeners()


def test_strong_receiver_is_kept(signal):
    signal.connect(lambda **named: 1, weak=False)
    gc.collect()

    assert len(signal.receivers) == 1


def test_method_lives_as_long_as_its_object(signal):
    class Listening:
        def hear(self, **named):
            return "heard"

    one = Listening()
    signal.connect(one.hear)
    gc.collect()
    assert [answer for _, answer in signal.send(None)] == ["heard"]

    del one
    gc.collect()
    assert signal.send(None) == []


def test_sender_may_be_a_task_or_its_name(signal, app):
    task, other = app.task(name="proj.t")(lambda: 1), app.task(name="proj.u")(lambda: 1)
    signal.connect(lambda **named: "by name", sender="proj.t", weak=False)
    signal.connect(lambda **named: "by task", sender=task, weak=False)

    assert [answer for _, answer in signal.send(task)] == ["by name", "by task"]
    assert [answer for _, answer in signal.send("proj.t")] == ["by name", "by task"]
    assert signal.send(other) == []


def test_has_listeners_tells_for_whom(signal):
    signal.connect(lambda **named: 1, sender="who", weak=False)

    assert signal.has_listeners()
    assert signal.has_listeners("who")
    assert not signal.has_listeners("other")


@pytest.mark.parametrize("send", ["send", "send_robust"])
def test_failing_receiver_is_logged_once_and_stops_nobody(signal, caplog, send):
    error = RuntimeError("broken receiver")

    def broken(**named):
        raise error

    def fine(**named):
        return 1

    signal.connect(broken)
    signal.connect(fine)

    assert getattr(signal, send)(None) == [(broken, error), (fine, 1)]
    (record,) = caplog.records
    assert "task_sample failed" in record.message
    assert "broken receiver" in record.exc_text


def test_receiver_with_retry_is_called_until_it_succeeds():
    pauses, calls = [], []
    signal = Signal("sample", sleep=pauses.append)

    def flaky(**named):
        calls.append(1)
        if len(calls) < 4:
            raise RuntimeError("not yet")
        return "at last"

    signal.connect(flaky, retry=True)

    assert [answer for _, answer in signal.send(None)] == ["at last"]
    assert pauses == [2.0, 4.0, 6.0]


def test_receiver_must_be_callable(signal):
    with pytest.raises(TypeError, match="must be callable, not 3"):
        signal.connect(3)


def test_async_receiver_runs_to_its_end_where_no_loop_runs(signal):
    async def receiver(x, **named):
        await asyncio.sleep(0)
        return x + 1

    signal.connect(receiver)

    assert signal.send(None, x=1) == [(receiver, 2)]


def test_async_receiver_runs_on_the_loop_that_runs(signal):
    loops = []

    async def receiver(**named):
        loops.append(asyncio.get_running_loop())

    signal.connect(receiver)

    async def main():
        ((_, task),) = signal.send(None)
        await task
        return asyncio.get_running_loop()

    loop = asyncio.run(main())

    assert loops == [loop]


def test_error_of_an_async_receiver_is_logged(signal, caplog):
    async def broken(**named):
        raise RuntimeError("broken receiver")

    signal.connect(broken)

    async def main():
        ((_, task),) = signal.send(None)
        await task

    asyncio.run(main())
    signal.send(None)

    assert [record.exc_text.splitlines()[-1] for record in caplog.records] == [
        "RuntimeError: broken receiver"
    ] * 2


def test_connecting_and_sending_need_no_asyncio():
    code = (
        "import sys\n"
        "from umbel.signals import task_success\n"
        "task_success.connect(print, weak=False)\n"
        "task_success.send('who', result=1)\n"
        "print('asyncio' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "False"


def test_repr_names_signal_and_arguments(signal):
    assert repr(signal) == "<Signal: task_sample providing_args={x}>"


def test_receiver_that_dies_amid_a_connect_leaves_the_list_to_it(signal):
    def dying(**named):
        return None

    signal.connect(dying)
    with signal._lock:  # another thread connects: it has read the list, and will replace it
        read = signal._connections
        del dying
        gc.collect()
        assert signal._connections is read

    assert signal.receivers == []
