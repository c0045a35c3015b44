"""Say in one line why a user's module can't be imported: which file, which line, what is there.

A traceback of an import goes through umbel, importlib and click; what a person needs is the last
line of their own.
"""

from __future__ import annotations

import linecache
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from pkgutil import iter_modules

from umbel.errors import near_matches

_OWN = Path(__file__).parent
_LONGEST_SOURCE = 100


def explain_missing(name: str, error: ModuleNotFoundError) -> str | None:
    """Return why the module `name` isn't there; None where another one, that it imports, isn't."""
    missing = error.name or ""
    if not (name == missing or name.startswith(f"{missing}.")) or not missing:
        return None
    package, _, last = missing.rpartition(".")
    parent = sys.modules.get(package)
    if not package:
        where: Sequence[str] = [str(Path.cwd())]
        place = f"in {where[0]}, nor is it installed"
    elif parent is not None and hasattr(parent, "__path__"):
        where = list(parent.__path__)
        place = f"in the package {package!r}"
    else:
        return f"there is no module {missing!r}: {package!r} is a module, not a package"
    found = sorted({module.name for module in iter_modules(where)})
    text = f"there is no module {missing!r} {place}"
    if close := near_matches(last, found, limit=1):
        return f"{text}; did you mean {f'{package}.{close[0]}' if package else close[0]!r}?"
    if found:
        shown = ", ".join(found[:8]) + (" …" if len(found) > 8 else "")
        return f"{text} (there: {shown})"
    return text


def explain(error: BaseException) -> str:
    """Return where in the user's code `error` was raised, the source line and the error."""
    if isinstance(error, SyntaxError) and error.filename:
        return _explain_syntax(error)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and not _is_below(frame.filename, _OWN)
    ]
    text = describe(error)
    if not frames:
        return text
    foreign = _foreign_folders()
    users = [f for f in frames if not any(_is_below(f.filename, folder) for folder in foreign)]
    at, deepest = (users or frames)[-1], frames[-1]
    source = (at.line or "").strip()
    shown = f": {source:.{_LONGEST_SOURCE}}" if source else ""
    raised = "" if at is deepest else f" (raised in {_place(deepest.filename, deepest.lineno)})"
    return f"{_place(at.filename, at.lineno)}{shown}: {text}{raised}"


def describe(error: BaseException) -> str:
    """Return an error's class and text on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({error.code!r})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _explain_syntax(error: SyntaxError) -> str:
    filename, lineno = error.filename or "", error.lineno
    source = (error.text or linecache.getline(filename, lineno or 0)).strip()
    shown = f": {source:.{_LONGEST_SOURCE}}" if source else ""
    return f"{_place(filename, lineno)}{shown}: {type(error).__name__}: {error.msg}"


def _place(filename: str, lineno: int | None) -> str:
    path = Path(filename)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{path} line {lineno}" if lineno else str(path)


def _foreign_folders() -> list[Path]:
    """Return the folders whose code isn't the user's: the standard library, packages, umbel."""
    paths = sysconfig.get_paths()
    folders = [Path(paths[key]) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    umbel = sys.modules["umbel"].__file__
    return [*folders, Path(umbel).parent] if umbel else folders


def _is_below(filename: str, folder: Path) -> bool:
    return Path(filename).is_relative_to(folder)
