"""Settings of chains, groups and chords."""

from __future__ import annotations

from umbel.settings.schema import Setting

_GROUP = "canvas"

SETTINGS = (
    Setting(
        name="canvas_semantics",
        type=str,
        default="native",
        help="Where Celery surprises: under `native` a group of one in a chain is a group, whose "
        "result is a list, and what a group is linked with is called once, after all of it; "
        "under `celery` a group of one is its member, and its first member calls what it is "
        "linked with.",
        choices=("native", "celery"),
        group=_GROUP,
    ),
    Setting(
        name="canvas_max_inline",
        type=int | None,
        default=32,
        help="How many calls a message may carry of what comes after it. The rest of a longer "
        "chain, a larger body of a chord, and results of more than 64 KiB that a body is to get, "
        "are kept with the coordinator. Workers of Celery can't read that: where they take part, set "
        "it to what your workflows need, or to None: all of it travels.",
        minimum=1,
        group=_GROUP,
    ),
    Setting(
        name="canvas_expires",
        type=float,
        default=30 * 86400.0,
        help="How long a chord waits for its next part, and how long the rest of a chain is kept.",
        unit="seconds",
        minimum=60.0,
        group=_GROUP,
    ),
)
