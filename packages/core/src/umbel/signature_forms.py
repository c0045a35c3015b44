"""The JSON form of signatures, as Celery writes it: which keys it has, and whether it is whole."""

from __future__ import annotations

from typing import Any, Final

#: Options that hold what follows from a call.
LINKS: Final = ("link", "link_error")
#: Options that hold signatures.
HOLDERS: Final = frozenset({*LINKS, "chain", "chord"})
OWN_KEYS: Final = frozenset({"task", "args", "kwargs", "options", "subtask_type", "immutable"})
#: What is made of a list of signatures.
_OF_TASKS: Final = frozenset({"chain", "group"})


def listed(given: Any) -> list[Any]:
    """Return the signatures of an option as a list; one may stand without."""
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def is_form(raw: Any) -> bool:
    """Tell whether `raw` is a whole JSON form, of a call or of several in a chain or group.

    Such a form travels on as it is: reading it would only say so more slowly.
    """
    if type(raw) is not dict or not raw.keys() >= OWN_KEYS:
        return False
    task, kwargs, options = raw["task"], raw["kwargs"], raw["options"]
    if (
        type(task) is not str
        or not task
        or type(kwargs) is not dict
        or type(options) is not dict
        or type(raw["args"]) is not list
    ):
        return False
    if raw["subtask_type"] is not None:
        tasks = kwargs.get("tasks")
        if raw["subtask_type"] not in _OF_TASKS or type(tasks) is not list:
            return False
        if not all(map(is_form, tasks)):
            return False
    if not options or HOLDERS.isdisjoint(options):
        return True
    return all(is_form(each) for name in HOLDERS for each in listed(options.get(name)))
