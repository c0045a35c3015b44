"""Each package is complete in its own folder."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))

package = pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)


def project(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


def import_name(folder: Path) -> str:
    return project(folder)["name"].replace("-", "_")


#: What is installed with packages that use it, and brings no plugin of its own.
LIBRARIES = [folder for folder in PACKAGES if "entry-points" not in project(folder)]
PLUGINS = [folder for folder in PACKAGES if folder not in LIBRARIES]


def extras(table: dict) -> list[str]:
    return [text for group in table.get("optional-dependencies", {}).values() for text in group]


def test_every_folder_of_packages_is_a_package():
    folders = sorted(p for p in (ROOT / "packages").iterdir() if p.is_dir())

    assert folders == PACKAGES


@package
def test_package_is_named_after_its_folder(folder):
    expected = "umbel" if folder.name == "core" else f"umbel-{folder.name}"

    assert project(folder)["name"] == expected


@package
def test_package_has_what_each_must_have(folder):
    needed = ["README.md", "CHANGELOG.md", "LICENSE", f"src/{import_name(folder)}/py.typed"]

    assert [name for name in needed if not (folder / name).is_file()] == []


@package
def test_package_ships_the_licence_of_the_repository(folder):
    licence = (ROOT / "LICENSE").read_text()

    assert (folder / "LICENSE").read_text() == licence
    assert project(folder)["license"] == "BSD-3-Clause"


@package
def test_version_is_static_and_in_the_changelog(folder):
    table = project(folder)

    assert re.fullmatch(r"\d+\.\d+\.\d+", table["version"])
    assert "version" not in table.get("dynamic", [])
    assert f"## {table['version']}" in (folder / "CHANGELOG.md").read_text()


@package
def test_package_needs_python_3_11(folder):
    assert project(folder)["requires-python"] == ">=3.11"


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_package_brings_a_plugin_under_its_own_name(folder):
    plugins = project(folder)["entry-points"]["umbel"]

    assert plugins.keys() == {folder.name}
    module = Path(*plugins[folder.name].split("."))
    assert (folder / "src" / module.with_suffix(".py")).is_file()


@package
def test_siblings_are_required_by_a_range(folder):
    table = project(folder)
    required = [*table["dependencies"], *extras(table)]
    siblings = [text for text in required if re.match(r"umbel\b", text)]

    assert [text for text in siblings if not re.search(r">=\d+\.\d+,<\d+", text)] == []
    if folder.name != "core":
        assert any(re.match(r"umbel[>=<]", text) for text in table["dependencies"])


@pytest.mark.parametrize("folder", LIBRARIES, ids=lambda folder: folder.name)
def test_package_without_a_plugin_is_a_library_of_several_that_bring_one(folder):
    name = project(folder)["name"]
    users = [
        plugin.name
        for plugin in PLUGINS
        if any(re.match(rf"{name}[>=<]", text) for text in project(plugin)["dependencies"])
    ]

    assert len(users) > 1


def test_core_requires_no_sibling_and_its_extras_nothing_else():
    table = project(ROOT / "packages" / "core")
    siblings = {project(folder)["name"] for folder in PLUGINS} - {"umbel"}

    assert [text for text in table["dependencies"] if text.startswith("umbel")] == []
    assert {re.split(r"[>=<\[]", text)[0] for text in extras(table)} == siblings


@package
def test_readme_of_the_repository_names_the_package(folder):
    readme = (ROOT / "README.md").read_text()

    assert f"packages/{folder.name}" in readme
    assert f"`{project(folder)['name']}`" in readme
