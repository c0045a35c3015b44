"""Every setting does something: the table has none that nothing reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from umbel.options import SOURCES
from umbel.settings.table import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
SETTINGS_PACKAGE = ROOT / "packages" / "core" / "src" / "umbel" / "settings"

#: Settings that nothing reads → why they are there all the same.
UNREAD = {
    "enable_utc": "Celery's configurations have it; the check that it is true is all it does",
    "task_protocol": "Celery's configurations have it; the check that it is 2 is all it does",
    "worker_send_task_events": "`-E` sets it, and Celery's configurations do; nothing sends them",
}


@pytest.fixture(scope="module")
def names_read() -> set[str]:
    of_tasks = {source.setting for source in SOURCES.values() if source.setting is not None}
    return of_tasks.union(
        *(
            reads(path.read_text(encoding="utf-8"))
            for path in ROOT.glob("packages/*/src/**/*.py")
            if not path.is_relative_to(SETTINGS_PACKAGE)
        )
    )


@pytest.mark.parametrize("name", [row.name for row in SETTINGS if row.name not in UNREAD])
def test_setting_is_read(name, names_read):
    assert name in names_read


@pytest.mark.parametrize("name", UNREAD)
def test_setting_that_is_said_to_be_unread_is_in_the_table_and_unread(name, names_read):
    assert name in {row.name for row in SETTINGS}
    assert name not in names_read


@pytest.mark.parametrize(
    "source,name",
    [
        ("x = conf.task_routes", "task_routes"),
        ("x = self.app.conf.task_routes", "task_routes"),
        ("x = self._conf['task_routes']", "task_routes"),
        ("x = app.conf.get('task_routes')", "task_routes"),
    ],
)
def test_reading_is_found(source, name):
    assert set(reads(source)) == {name}


@pytest.mark.parametrize(
    "source",
    [
        "conf.task_routes = {}",
        "conf['task_routes'] = {}",
        "conf.update(task_routes={})",
        "conf.update({'task_routes': {}})",
        "task.task_routes",
        "'''Reads conf.task_routes.'''",
    ],
)
def test_writing_and_talking_are_no_reading(source):
    assert "task_routes" not in set(reads(source))


def reads(source: str) -> Iterator[str]:
    """Find `conf.NAME`, ``conf["NAME"]`` and ``conf.get("NAME")``; no assignments."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value, name, ast.Load()) if is_conf(value) and name != "get":
                yield name
            case ast.Subscript(value, ast.Constant(str(name)), ast.Load()) if is_conf(value):
                yield name
            case ast.Call(ast.Attribute(value, "get"), [ast.Constant(str(name)), *_]) if is_conf(
                value
            ):
                yield name


def is_conf(node: ast.expr) -> bool:
    """Tell whether an expression is the settings, going by its name."""
    match node:
        case ast.Name(name) | ast.Attribute(_, name):
            return name in {"conf", "_conf"}
        case _:
            return False
