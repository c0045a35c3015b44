"""The tasks of the side-by-side benchmark, in umbel's own API."""

import os
import time

import work

from umbel import Umbel, chain, chord, group

URL = os.environ.get("BENCH_UMBEL_URL")
if URL:
    app = Umbel("bench", broker=URL, backend=URL)
else:
    app = Umbel(
        "bench",
        broker=os.environ["BENCH_REDIS_URL"],
        backend=os.environ["BENCH_RESULT_URL"],
        coordinator_url=os.environ["BENCH_REDIS_URL"],
    )

noop = app.task(name="noop")(work.noop)
noop_nr = app.task(name="noop_nr", ignore_result=True)(work.noop)
cpu = app.task(name="cpu")(work.cpu)
io = app.task(name="io")(
    work.io_async if os.environ.get("BENCH_MODE") == "asyncio" else work.io_sync
)
payload = app.task(name="payload")(work.payload)


@app.task(name="total")
def total(values):
    return sum(values)


@app.task(name="step")
def step(previous, i):
    work.noop(i)
    return previous + 1


TASKS = {"noop": noop, "noop_nr": noop_nr, "cpu": cpu, "io": io, "payload": payload}


def _args(task, i, size):
    return (i, "x" * size) if task == "payload" else (i,)


def send_one(task, start, count, size):
    send = TASKS[task].delay
    for i in range(start, start + count):
        send(*_args(task, i, size))


def send_bulk(task, start, count, size):
    TASKS[task].map_async([_args(task, i, size) for i in range(start, start + count)])


def latency(start, count):
    out = []
    for i in range(start, start + count):
        began = time.perf_counter()
        value = noop.delay(i).get(timeout=10)
        out.append(time.perf_counter() - began)
        assert value == i
    return out


def canvas_group(start, count):
    got = group(noop.s(i) for i in range(start, start + count))().get(timeout=120)
    assert got == list(range(start, start + count))
    return len(got)


def canvas_chord(start, count):
    got = chord([noop.s(i) for i in range(start, start + count)])(total.s()).get(timeout=120)
    assert got == sum(range(start, start + count)), got
    return got


def canvas_chain(start, count):
    links = [step.s(0, start)] + [step.s(i) for i in range(start + 1, start + count)]
    got = chain(*links)().get(timeout=120)
    assert got == count, got
    return got
