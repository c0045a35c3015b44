"""Workflows as text, with what they come to: for clients of either kind."""

from __future__ import annotations

CHAINS = {
    "plain": ("chain({add}(1, 2), {add}(3), {add}(4))", 10),
    "immutable": ("chain({add}(1, 2), {add_si}(3), {add}(4))", 7),
    "ends in a group": ("chain({add}(1, 2), group({add}(3), {add}(4)))", [6, 7]),
    "group in the middle": (
        "chain({add}(1), group({add}(3), {add}(4)), {same}('x'))",
        [[4, 5], "x"],
    ),
    "group first": ("chain(group({add}(3), {add}(4)), {same}(), {same}('x'))", [[[3, 4]], "x"]),
    "two groups in the middle": (
        "chain({add}(1), group({add}(3), {add}(4)), group({same}('a'), {same}('b')), {same}('x'))",
        [[[[4, 5], "a"], [[4, 5], "b"]], "x"],
    ),
    "chord in the middle": (
        "chain({add}(1), chord([{add}(3), {add}(4)], {same}()), {same}('x'))",
        [[[4, 5]], "x"],
    ),
    "map": ("chain({add}(1), tasks.add.map([1, 2]).set({at}))", [1, 2]),
}
CHORDS = {
    "plain": ("chord([{add}(1, 2), {add}(3, 4)], {same}())", [[3, 7]]),
    "of one": ("chord([{add}(1, 2)], {same}())", [[3]]),
    "of many": ("chord([{add}(n) for n in range(30)], {same}())", [list(range(30))]),
    "immutable body": ("chord([{add}(1, 2)], {same_si}('x'))", ["x"]),
    "chain in the header": ("chord([chain({add}(1), {add}(2)), {add}(3)], {same}())", [[3, 3]]),
    "group in the header": ("chord([group({add}(1), {add}(2)), {add}(3)], {same}())", None),
    "chord in the header": (
        "chord([chord([{add}(1), {add}(2)], {same}()), {add}(3)], {same}())",
        [[[[1, 2]], 3]],
    ),
    "chain that ends in a chord in the header": (
        "chord([chain({add}(1), chord([{add}(1), {add}(2)], {same}())), {add}(3)], {same}())",
        [[[[2, 3]], 3]],
    ),
    "chain that ends in a group in the header": (
        "chord([chain({add}(1), group({add}(3), {add}(9))), {add}(4)], {same}())",
        [[[4, 10], 4]],
    ),
    "chain as body": ("chord([{add}(1), {add}(2)], chain({same}(), {same}('x')))", [[[1, 2]], "x"]),
    "chain that begins with a group as body": (
        "chord([{add}(1), {add}(2)], chain(group({same}('a'), {same}('b')), {same}()))",
        [[[[1, 2], "a"], [[1, 2], "b"]]],
    ),
    "group as body": (
        "chord([{add}(1), {add}(2)], group({same}('a'), {same}('b')))",
        [[[1, 2], "a"], [[1, 2], "b"]],
    ),
    "chord as body": (
        "chord([{add}(1), {add}(2)], chord([{same}('a'), {same}('b')], {same}()))",
        [[[[1, 2], "a"], [[1, 2], "b"]]],
    ),
    "with retries": (
        "chord([tasks.flaky.s('x', 1).set({at}), {add}(2)], {same}())",
        [[1, 2]],
    ),
    "with ignored results": (
        "chord([{add}(1).set(ignore_result=True), {add}(2)], {same}())",
        [[1, 2]],
    ),
}
GROUPS = {
    "plain": ("group({add}(1, 2), {add}(3, 4))", [3, 7]),
    "of chains": ("group(chain({add}(1), {add}(2)), {add}(3))", [3, 3]),
    "of chords": ("group(chord([{add}(1)], {same}()), {add}(3))", [[[1]], 3]),
    "map": ("tasks.add.map([1, 2]).set({at})", [1, 2]),
    "starmap": ("tasks.add.starmap([(1, 2), (3, 4)]).set({at})", [3, 7]),
    "chunks": ("tasks.add.chunks([(1, 2), (3, 4), (5, 6)], 2).group().set({at})", [[3, 7], [11]]),
}


def written(form, queue):
    """Return a form as Python, all its calls to one queue."""
    at = f"queue={queue!r}"
    names = {name: f"(lambda *a: tasks.{name}.s(*a).set({at}))" for name in ("add", "same", "fail")}
    names |= {
        f"{name}_si": f"(lambda *a: tasks.{name}.si(*a).set({at}))" for name in ("add", "same")
    }
    return form.format(at=at, **names)
