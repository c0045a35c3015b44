"""Calling tasks: what is checked, and what comes back."""

from __future__ import annotations

from typing import reveal_type

from umbel import Umbel, group, shared_task
from umbel.messages import OnConflict
from umbel.results import GroupResult, ResultSet

app = Umbel("typing")


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task(queue="mail", max_retries=5, autoretry_for=(OSError,), retry_backoff=True)
def welcome(user_id: int, *, locale: str = "en") -> str:
    return f"{user_id} {locale}"


@app.task(bind=True, time_limit=60)
def fetch(self, url: str) -> bytes:  # type: ignore[no-untyped-def]
    return url.encode()


@app.task
async def poll(url: str) -> list[str]:
    return [url]


@shared_task
def shared(x: int) -> float:
    return x / 2


# Bare, with options, bound, async and shared: the parameters are the function's own.
add.delay(1, 2)
add.delay("x", 2)  # E: Argument 1 to "delay" of "Task" has incompatible type "str"; expected "int"
add.delay(1)  # E: Missing positional argument "y" in call to "delay" of "Task"
add.delay(1, 2, 3)  # E: Too many arguments for "delay" of "Task"
add.delay(1, z=2)  # E: Unexpected keyword argument "z" for "delay" of "Task"
welcome.delay(7, locale="de")
welcome.delay(7, "de")  # E: Too many positional arguments for "delay" of "Task"
welcome.delay(7, locale=1)  # E: incompatible type "int"; expected "str"
fetch.delay("https://example.org")
fetch.delay(1)  # E: incompatible type "int"; expected "str"
poll.delay(1)  # E: incompatible type "int"; expected "str"
shared.delay("x")  # E: incompatible type "str"; expected "int"

# Results carry the type of the return value; of an async task, that of what is awaited.
reveal_type(add.delay(1, 2))  # R: AsyncResult[int]
reveal_type(add.delay(1, 2).get(timeout=10))  # R: int
reveal_type(fetch.delay("x").get())  # R: bytes
reveal_type(poll.delay("x").get())  # R: list[str]
reveal_type(shared.delay(1).get())  # R: float
later = add.apply_async((1, 2), countdown=60, queue="slow")
reveal_type(later)  # R: AsyncResult[int]
reveal_type(add.map_async([(1, 2), (3, 4)]))  # R: list[AsyncResult[int]]
reveal_type(add.AsyncResult("some-id").get())  # R: int

# Of many results together, the values are a list.
both = ResultSet([add.delay(1, 2), add.delay(3, 4)])
reveal_type(both.get(timeout=10))  # R: list[int]
reveal_type(GroupResult("some-id", [shared.delay(1)]).join())  # R: list[float]
reveal_type(both.progress().percentage)  # R: float
reveal_type([task_id for task_id, _ in both.iterate()])  # R: list[str]
reveal_type(add.delay(1, 2).children)  # R: list[AsyncResult[Any] | GroupResult[Any]] | None

# Signatures carry the type of the return value, too.
reveal_type(add.s(1))  # R: Signature[int]
reveal_type(add.si(1, 2))  # R: Signature[int]
reveal_type(add.signature((1,), queue="slow"))  # R: Signature[int]
reveal_type(~add.s(1, 2))  # R: int
reveal_type(poll.s("x").set(queue="slow").delay())  # R: AsyncResult[list[str]]
reveal_type(add.s(1).clone((2,)).freeze().result)  # R: AsyncResult[int]
reveal_type(add.s(1).link(shared.s()).stamp(tag=1).apply_async((2,)).get())  # R: int
add.si("x", 2)  # E: incompatible type "str"; expected "int"
add.signature(queue=5)  # E: has incompatible type "int"; expected "str | None"
reveal_type(add.s(1, 2) | shared.s())  # R: Signature[Any]
reveal_type(group(add.s(1, 2)).tasks)  # R: tuple[Signature[Any], ...]

# A task is still a function.
reveal_type(add(1, 2))  # R: int
add("x", 2)  # E: incompatible type "str"; expected "int"

# Options are checked too.
add.apply_async((1, 2), countdwon=60)  # E: Unexpected keyword argument "countdwon"
add.apply_async((1, 2), priority="high")  # E: has incompatible type "str"; expected "int | None"


@app.task(max_retires=3)  # E: No overload variant # E: makes function "typo" untyped
def typo() -> None: ...


async def client() -> None:
    reveal_type(await add.adelay(1, 2))  # R: AsyncResult[int]
    reveal_type(await (await add.adelay(1, 2)))  # R: int
    reveal_type(await (await poll.adelay("x")).aget(timeout=10))  # R: list[str]
    reveal_type(await both)  # R: list[int]
    reveal_type(await poll("x"))  # R: list[str]
    await add.adelay("x", 2)  # E: incompatible type "str"; expected "int"


# What happens where an id is known is one of three words.
add.apply_async((1, 2), task_id="mine", on_conflict="return")
add.apply_async((1, 2), task_id="mine", on_conflict=OnConflict.REPLACE)
add.apply_async((1, 2), on_conflict="ignore")  # E: Argument "on_conflict" to "apply_async"
