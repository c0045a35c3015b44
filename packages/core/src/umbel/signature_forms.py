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
    if type(raw) is not dict:
        return False
    try:
        task, args, kwargs, options = raw["task"], raw["args"], raw["kwargs"], raw["options"]
        kind, _ = raw["subtask_type"], raw["immutable"]
    except KeyError:
        return False
    if type(task) is not str or not task or type(args) is not list:
        return False
    if type(kwargs) is not dict or type(options) is not dict:
        return False
    if kind is not None:
        tasks = kwargs.get("tasks")
        if kind not in _OF_TASKS or type(tasks) is not list:
            return False
        if not all(map(is_form, tasks)):
            return False
    if not options or HOLDERS.isdisjoint(options):
        return True
    return all(is_form(each) for name in HOLDERS for each in listed(options.get(name)))
