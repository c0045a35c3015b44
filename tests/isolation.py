"""Build every package and try each one with core alone, in a fresh environment.

``nox -s isolation`` runs it; it needs hatchling and virtualenv. What it shows: the wheels are
complete, a package's own requirements suffice for all of its modules, and its plugin loads
without any other package of ours.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CORE = "umbel"
TRIAL = Path(__file__).resolve().parent / "isolation_trial.py"


class Package(NamedTuple):
    """One of our packages, built."""

    name: str
    import_name: str
    scripts: tuple[str, ...]
    wheel: Path


class TrialError(Exception):
    """A package doesn't work by itself."""


def main(folder: Path) -> int:
    """Build and try all packages in `folder`; return 1 if one failed."""
    shutil.rmtree(folder, ignore_errors=True)
    packages = [
        build(path.parent, folder) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))
    ]
    core = next(package for package in packages if package.name == CORE)
    failed = []
    for package in packages:
        try:
            check_wheel(package)
            said = try_alone(package, core, folder / package.name)
        except TrialError as error:
            failed.append(package.name)
            said = f"FAILED: {error}"
        print(f"{package.name}: {said}", flush=True)
    print(f"{len(packages)} packages built and tried alone, {len(failed)} failed", flush=True)
    return 1 if failed else 0


def build(source: Path, folder: Path) -> Package:
    """Build the wheel of the package in `source`."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    wheels = folder / "wheels" / project["name"]
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels), cwd=source)
    return Package(
        name=project["name"],
        import_name=project["name"].replace("-", "_"),
        scripts=tuple(project.get("scripts", {})),
        wheel=next(wheels.glob("*.whl")),
    )


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


def try_alone(package: Package, core: Package, folder: Path) -> str:
    """Install core and `package` into a new environment and use them there."""
    env = folder / "env"
    run(sys.executable, "-m", "virtualenv", "--quiet", str(env))
    bin_folder = env / ("Scripts" if os.name == "nt" else "bin")
    python = str(bin_folder / "python")
    wheels = sorted({str(core.wheel), str(package.wheel)})
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wheels)
    run(python, "-m", "pip", "check")
    elsewhere = folder / "cwd"  # so that nothing of the clone is found
    elsewhere.mkdir()
    said = run(python, "-I", str(TRIAL), package.name, package.import_name, cwd=elsewhere)
    if "umbel" in package.scripts:
        listing = run(str(bin_folder / "umbel"), "plugins", cwd=elsewhere)
        if package.name not in listing or core.name not in listing:
            raise TrialError(f"`umbel plugins` doesn't name it:\n{listing}")
        said = f"{said.rstrip()}, listed by `umbel plugins`"
    return said.strip()


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
