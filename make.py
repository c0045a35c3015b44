#!/usr/bin/env python3
"""Set up what is needed and run something: ``python3 make.py demo``, ``python3 make.py test``.

Needs Python 3.11 or newer with pip, and nothing else: makes ``.venv`` beside this file, puts nox
into it and hands over to nox. Every session of noxfile.py works too: ``python3 make.py lint``,
``python3 make.py tests -- tests/core -k retry``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
NEEDED = (3, 11)
NOX = "nox>=2025.2.9"

#: What the words of this script mean to nox. `test` is what CI runs: cheap sessions first, and
#: pytest last, so that its closing line is at the end.
SESSIONS = {
    "test": ["lint", "floors", "types", "docs_check", "isolation", "interop", "tests"],
}


def main(argv: list[str]) -> int:
    """Make the environment where it is missing, then become nox."""
    if not argv or argv[0] in {"-h", "--help"}:
        print(__doc__)
        return 0 if argv else 2
    use_new_enough_python(argv)
    python = venv_python()
    if not works(python, "-m", "nox", "--version"):
        make_venv(python)
    sessions = SESSIONS.get(argv[0], [argv[0]])
    command = [str(python), "-m", "nox", "--noxfile", str(ROOT / "noxfile.py")]
    command += ["--sessions", *sessions, *argv[1:]]
    environ = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environ.pop("PYTHONPATH", None)  # sessions see what is installed in them, and no more
    sys.stdout.flush()
    if os.name == "posix":  # one process less between Ctrl-C and the one that it is meant for
        os.execve(command[0], command, environ)
    return subprocess.run(command, env=environ, check=False).returncode


def use_new_enough_python(argv: list[str]) -> None:
    """Start again under a newer Python of this machine if this one is too old."""
    if sys.version_info >= NEEDED:
        return
    for minor in (13, 12, 11, 14):
        found = shutil.which(f"python3.{minor}")
        if found and works(found, "-c", ""):
            sys.exit(subprocess.call([found, str(Path(__file__).resolve()), *argv]))
    fail(
        f"umbel needs Python {NEEDED[0]}.{NEEDED[1]} or newer; this is"
        f" {sys.version_info[0]}.{sys.version_info[1]} ({sys.executable}), and there is no newer"
        " one on the PATH; install one, and run this with it: python3.12 make.py …"
    )


def venv_python() -> Path:
    """Return where the environment's Python is, or will be."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(python: Path) -> None:
    """Make the environment and install nox, also where Python came without ensurepip."""
    print(f"setting up {VENV} …", flush=True)
    install = ["install", "--quiet", "--disable-pip-version-check", NOX]
    # --clear: what is there doesn't work (an interrupted set-up, a Python that is gone).
    venv = [sys.executable, "-m", "venv", "--clear"]
    made = subprocess.run(
        [*venv, str(VENV)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if made.returncode == 0 and works(python, "-m", "pip", "--version"):
        pip = [str(python), "-m", "pip"]
    elif works(sys.executable, "-m", "pip", "--version"):
        # Debian without python3-venv: the environment's pip is missing, so the system's pip
        # installs into it from outside. That is no "externally managed" environment.
        if subprocess.run([*venv, "--without-pip", str(VENV)], check=False).returncode:
            fail(f"python can't make an environment in {VENV}; see its message above")
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
    else:
        said = made.stdout.decode(errors="replace").strip()
        fail(
            f"{sys.executable} has neither ensurepip nor pip; install one of them"
            f" (Debian, Ubuntu: apt install python3-venv), then repeat\n\n{said}"
        )
    if subprocess.run(
        [*pip, *install], env={**os.environ, "PIP_USER": "0"}, check=False
    ).returncode:
        fail("pip could not install nox; see its message above, then repeat")


def works(*command: str | Path) -> bool:
    """Tell whether a command runs and ends well."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def fail(message: str) -> None:
    """End with a message."""
    sys.exit(f"make.py: {message}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
