"""The tasks of the side-by-side benchmark, in umbel's own API."""

import os
import time

import work

from umbel import Umbel

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
