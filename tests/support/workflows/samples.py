"""Workflows of all shapes, each as small as its shape allows."""

from __future__ import annotations

from workflows.nodes import Chain, Chord, Group, Node, Task

_CALLBACK, _ERRBACK = Task("callback"), Task("errback")

SAMPLES: dict[str, Node] = {
    "task with links": Task("a", links=(_CALLBACK, Task("other"))),
    "failing task": Task("a", does="fail", retries=1, errbacks=(_ERRBACK,)),
    "chain": Chain((Task("a"), Task("b", retries=1), Task("c")), links=(_CALLBACK,)),
    "failing chain": Chain((Task("a"), Task("b", does="fail"), Task("c"), Task("d"))),
    "group": Group((Task("a"), Task("b"), Task("c", does="fail")), links=(_CALLBACK,)),
    "chord": Chord((Task("a"), Task("b"), Task("c", retries=1)), Task("body")),
    "aborted chord": Chord(
        (Task("a"), Task("b", does="fail"), Task("c")), Task("body"), errbacks=(_ERRBACK,)
    ),
    "collecting chord": Chord(
        (Task("a"), Task("b", does="fail"), Task("c", does="expire")),
        Task("body"),
        policy="collect",
    ),
    "chord of chains": Chord(
        (Chain((Task("a"), Task("b"))), Chain((Task("c", does="fail"), Task("d")))),
        Task("body"),
        policy="ignore",
    ),
    "body that is a group": Chain(
        (Chord((Task("a"), Task("b")), Group((Task("c"), Task("d")))), Task("last"))
    ),
    "body that is a chord": Chord(
        (Task("a"), Task("b")), Chord((Task("c"), Task("d")), Task("inner")), links=(_CALLBACK,)
    ),
    "chord in a chord": Chord(
        (Chord((Task("a"), Task("b")), Task("inner")), Chain((Task("c"), Group((Task("d"),))))),
        Task("body"),
    ),
    "failed chord in a chord": Chord(
        (Chord((Task("a", does="fail"), Task("b")), Task("inner")), Task("c")),
        Chain((Task("body"), Task("last"))),
        errbacks=(_ERRBACK,),
    ),
    "groups in a chain": Chain(
        (Task("a"), Group((Task("b"), Task("c"))), Group((Task("d"), Task("e"))), Task("last"))
    ),
    "grown chord": Chord((Task("a", adds=Task("xb", retries=1)), Task("d")), Task("body")),
    "replaced by a chord": Chain(
        (Task("a", by=Chord((Task("b"), Task("c")), Task("d"))), Task("last"))
    ),
    "replaced in a chord": Chord(
        (Task("a", by=Group((Task("b"), Task("c")))), Task("d", by=Task("e", does="fail"))),
        Task("body"),
        policy="collect",
    ),
}
