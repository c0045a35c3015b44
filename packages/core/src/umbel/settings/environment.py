"""Settings out of environment variables: ``UMBEL_`` and the setting's name in upper case.

``UMBEL_<NAME>_FILE`` names a file that holds the value, as containers get their secrets. An
empty variable counts as not set. Any other variable with this prefix is a problem, except those
that are known to be something else.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from pathlib import Path

from umbel.settings.layers import Given, Layer, Problem

PREFIX = "UMBEL_"
_FILE = "_file"

#: Variables that aren't settings → what they are, for the documentation.
NOT_SETTINGS = {
    "UMBEL_APP": "the app, where the command line has no `-A`",
    "UMBEL_DEBUG": "the command line shows whole tracebacks",
    "UMBEL_PYTHON": "the interpreter that the project's own tools use",
}
#: The same for whole groups.
NOT_SETTINGS_PREFIXES = {
    "UMBEL_BENCH_": "the benchmarks",
    "UMBEL_PRELOAD_": "what a worker tells the processes that it starts",
    "UMBEL_TEST_": "the tests",
}
#: What Kubernetes puts into each pod beside a service whose name begins with "umbel".
_OF_KUBERNETES = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_.+)?)?)"
)


def from_environment(environ: Mapping[str, str], names: Container[str]) -> Layer:
    """Return what the variables in `environ` give.

    Args:
        environ: The process's environment.
        names: The settings that there are.
    """
    given: dict[str, Given] = {}
    problems: list[Problem] = []
    for variable in sorted(environ):
        text = environ[variable]
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or not text.strip():
            continue
        if name not in names and (_is_something_else(variable) or name == ""):
            continue
        source = f"environment variable {variable}"
        if name not in names and name.endswith(_FILE) and name.removesuffix(_FILE) in names:
            name = name.removesuffix(_FILE)
            source = f"file {text} of {source}"
            try:
                text = _content(text)
            except (OSError, UnicodeDecodeError) as exc:
                problems.append(Problem(name, f"can't be read: {exc}", source))
                continue
        if name in given:
            problems.append(Problem(name, f"is given by {given[name].source} too", source))
            continue
        given[name] = Given(value=text, source=source, written=variable, is_text=True)
    return Layer(given, tuple(problems))


def _is_something_else(variable: str) -> bool:
    return (
        variable in NOT_SETTINGS
        or variable.startswith(tuple(NOT_SETTINGS_PREFIXES))
        or _OF_KUBERNETES.fullmatch(variable) is not None
    )


def _content(path: str) -> str:
    return Path(path).read_text("utf-8").strip()
