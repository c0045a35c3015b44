"""The door to everything: ``nox -s tests``, ``nox -s lint`` … ; ``nox -l`` lists them.

Packages are what stands in ``packages/*`` with a pyproject.toml: there is no list to maintain.
Arguments after ``--`` go to the session's tool: ``nox -s tests -- tests/core -k retry``.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "floors", "types", "docs_check", "isolation", "interop", "tests"]

ROOT = Path(__file__).resolve().parent
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
GROUPS = nox.project.load_toml(ROOT / "pyproject.toml")
#: Builds every package; installed once a session, so that each package's build needs no
#: environment of its own.
BUILD_TOOLS = ("hatchling>=1.26", "editables>=0.5")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; all of them, two files at a time, or what is named after ``--``."""
    install_packages(session, *group("tests"))
    session.run("python", "tests/support/provision.py")
    session.run("pytest", *(session.posargs or ["-n", "2", "--dist", "loadfile"]))


@nox.session
def interop(session: nox.Session) -> None:
    """Run the tests with a real Celery, which has an environment of its own."""
    install_packages(session, *group("tests"), "virtualenv>=20.26")
    session.run("python", "tests/support/provision.py")
    celery = session.env_dir.with_name("interop-celery")
    session.run("python", "-m", "virtualenv", "--quiet", str(celery))
    python = str(celery / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    session.run(python, *install, *group("celery"), external=True)
    named = any(argument.startswith("tests") for argument in session.posargs)
    where = () if named else ("tests/interop",)
    session.run("pytest", *where, *session.posargs, env={"CELERY_PYTHON": python})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and layout; ``nox -s lint -- --fix`` repairs what can be."""
    session.install(*group("lint"))
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []), ".")
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of all packages, and what a user's type checker sees."""
    install_packages(session, *group("types"))
    sources = [*(package / "src" for package in PACKAGES), *ROOT.glob("examples/*/src")]
    session.run("mypy", "--strict", *map(str, sources))
    session.run("python", "tests/typing/check.py", *session.posargs)


@nox.session
def floors(session: nox.Session) -> None:
    """Check that each module imports only from the floors below its own."""
    session.install(*group("floors"))
    sources = os.pathsep.join(str(package / "src") for package in PACKAGES)
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": sources})


@nox.session
def isolation(session: nox.Session) -> None:
    """Build each package and try it with core alone; try the plugins in examples/ as well."""
    session.install(*BUILD_TOOLS, "virtualenv>=20.26")
    session.run("python", "tests/isolation.py", session.create_tmp(), *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Run ``umbel demo``: a real job on this machine, without a server."""
    session.install("-q", *(str(ROOT / "packages" / name) for name in ("core", "cli")))
    # Ctrl-C is the demo's to handle: give it the time to stop its workers in order.
    session.run("umbel", "demo", *session.posargs, interrupt_timeout=60, terminate_timeout=30)
    session.log(f"`source {session.bin}/activate` puts this `umbel` on your PATH")


@nox.session
def docs(session: nox.Session) -> None:
    """Write the pages in docs/, or the parts of them, that come from the code."""
    install_packages(session)
    session.run("python", "docs/build.py", *session.posargs)


@nox.session
def docs_check(session: nox.Session) -> None:
    """Check that these pages are those that `docs` would write."""
    install_packages(session)
    session.run("python", "docs/build.py", "--check", *session.posargs)


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group in pyproject.toml."""
    return list(nox.project.dependency_groups(GROUPS, name))


def install_packages(session: nox.Session, *requirements: str) -> None:
    """Install all packages, editable, and `requirements`."""
    session.install("-q", *BUILD_TOOLS)
    editable = [part for package in PACKAGES for part in ("-e", str(package))]
    session.install("-q", "--no-build-isolation", *editable, *requirements)
