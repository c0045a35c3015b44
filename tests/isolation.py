"""Build every package and try each one with core alone, in a fresh environment.

``nox -s isolation`` runs it; it needs hatchling and virtualenv. What it shows: the wheels are
complete, a package's own requirements suffice for all of its modules, and its plugin loads
without any other package of ours but the libraries that it requires. Then each plugin in examples/ is installed from its own wheel,
as a stranger's would be: it passes its tests on the kit, and ``umbel demo`` runs on it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CORE = "umbel"
#: What an example needs around it, from wheels too.
BESIDE_EXAMPLES = ("umbel", "umbel-cli", "umbel-testing")
DEMO_FILES = 80
TRIAL = Path(__file__).resolve().parent / "isolation_trial.py"


class Package(NamedTuple):
    """One of our packages, built."""

    name: str
    import_name: str
    scripts: tuple[str, ...]
    #: Names of the distributions that it needs.
    requires: tuple[str, ...]
    wheel: Path


class TrialError(Exception):
    """A package doesn't work by itself."""


def main(folder: Path) -> int:
    """Build and try all packages in `folder`; return 1 if one failed."""
    shutil.rmtree(folder, ignore_errors=True)
    packages = [
        build(path.parent, folder) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))
    ]
    failed = []
    for package in packages:
        try:
            check_wheel(package)
            said = try_alone(package, packages, folder / package.name)
        except TrialError as error:
            failed.append(package.name)
            said = f"FAILED: {error}"
        print(f"{package.name}: {said}", flush=True)
    print(f"{len(packages)} packages built and tried alone, {len(failed)} failed", flush=True)
    failed_examples = try_examples(packages, folder)
    return 1 if failed or failed_examples else 0


def try_examples(packages: Sequence[Package], folder: Path) -> list[str]:
    """Build and try the plugins in examples/; return the names of those that failed."""
    failed = []
    beside = [package for package in packages if package.name in BESIDE_EXAMPLES]
    for path in sorted(ROOT.glob("examples/*/pyproject.toml")):
        example = build(path.parent, folder)
        try:
            check_wheel(example)
            said = try_example(example, path.parent, beside, folder / example.name)
        except TrialError as error:
            failed.append(example.name)
            said = f"FAILED: {error}"
        print(f"{example.name}: {said}", flush=True)
    return failed


def build(source: Path, folder: Path) -> Package:
    """Build the wheel of the package in `source`."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    wheels = folder / "wheels" / project["name"]
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels), cwd=source)
    return Package(
        name=project["name"],
        import_name=project["name"].replace("-", "_"),
        scripts=tuple(project.get("scripts", {})),
        requires=tuple(requirement_name(text) for text in project["dependencies"]),
        wheel=next(wheels.glob("*.whl")),
    )


def requirement_name(requirement: str) -> str:
    """Return the distribution that a requirement is about."""
    found = re.match(r"[\w.-]+", requirement)
    if not found:
        raise TrialError(f"{requirement!r} is no requirement")
    return found[0]


def needed_by(package: Package, packages: Sequence[Package]) -> list[Package]:
    """Return `package`, core, and what it requires of ours, directly or not."""
    ours = {each.name: each for each in packages}
    needed, todo = {}, [package.name, CORE]
    while todo:
        name = todo.pop()
        if name in ours and name not in needed:
            needed[name] = ours[name]
            todo += ours[name].requires
    return list(needed.values())


def check_wheel(package: Package) -> None:
    """See that the wheel holds what each must, and nothing beside its one import package."""
    names = zipfile.ZipFile(package.wheel).namelist()
    if f"{package.import_name}/py.typed" not in names:
        raise TrialError("the wheel has no py.typed")
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        raise TrialError("the wheel has no LICENSE")
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    if tops != {package.import_name}:
        raise TrialError(f"the wheel holds {sorted(tops)}, not {package.import_name!r} alone")


def make_environment(folder: Path, packages: Sequence[Package]) -> Path:
    """Install `packages` from their wheels into a new environment; return where its programs are."""
    run(sys.executable, "-m", "virtualenv", "--quiet", str(folder))
    bin_folder = folder / ("Scripts" if os.name == "nt" else "bin")
    python = str(bin_folder / "python")
    wheels = sorted({str(package.wheel) for package in packages})
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wheels)
    run(python, "-m", "pip", "check")
    return bin_folder


def try_alone(package: Package, packages: Sequence[Package], folder: Path) -> str:
    """Install `package` and what it needs into a new environment and use it there."""
    bin_folder = make_environment(folder / "env", needed_by(package, packages))
    python = str(bin_folder / "python")
    elsewhere = folder / "cwd"  # so that nothing of the clone is found
    elsewhere.mkdir()
    said = run(python, "-I", str(TRIAL), package.name, package.import_name, cwd=elsewhere)
    if "umbel" in package.scripts:
        listing = run(str(bin_folder / "umbel"), "plugins", cwd=elsewhere)
        if package.name not in listing or CORE not in listing:
            raise TrialError(f"`umbel plugins` doesn't name it:\n{listing}")
        said = f"{said.rstrip()}, listed by `umbel plugins`"
    return said.strip()


def try_example(example: Package, source: Path, beside: Sequence[Package], folder: Path) -> str:
    """Install `example` beside the packages it is for; run its tests, and the demo on it."""
    env = make_environment(folder / "env", [*beside, example])
    elsewhere = folder / "cwd"
    elsewhere.mkdir()
    shutil.copytree(source / "tests", elsewhere / "tests")
    umbel = str(env / "umbel")
    listing = json.loads(run(umbel, "plugins", "--json", cwd=elsewhere))
    [plugin] = [row for row in listing if row["distribution"] == example.name]
    if plugin["error"] or plugin["problems"]:
        raise TrialError(f"`umbel plugins` says: {plugin}")
    tests = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "tests")
    passed = run(str(env / "python"), *tests, cwd=elsewhere).strip().splitlines()[-1]
    said = [f"listed by `umbel plugins`, {passed}"]
    for scheme in plugin["offers"].get("brokers", ()):
        demo = (umbel, "demo", "-q", "--json", "--verify", "--limit", str(DEMO_FILES))
        ended = json.loads(run(*demo, "--broker", f"{scheme}://{elsewhere}/queue", cwd=elsewhere))
        if not ended["adds_up"] or ended["done_now"] != DEMO_FILES:
            raise TrialError(f"`umbel demo` on {scheme}:// came to {ended}")
        said.append(f"`umbel demo` on {scheme}:// did {ended['done_now']} tasks")
    return ", ".join(said)


def run(*command: str, cwd: Path = ROOT) -> str:
    """Run a command and return what it printed. Raises: TrialError: it failed."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TrialError(f"`{' '.join(command)}` ended with {done.returncode}\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
