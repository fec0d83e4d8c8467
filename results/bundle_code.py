"""Which of our files redraw a table, and which releases of others they were run with: read from their imports."""

import ast
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_ROOMS = ("results", "trainer")
_DOOR = "results.redraw"


def closure(door: str = _DOOR) -> dict[str, bytes]:
    """The files of a module and of all that it imports of ours, at any depth, by path."""
    found: dict[str, bytes] = {}
    ahead = [door]
    while ahead:
        for path in _files_of(ahead.pop()):
            name = path.relative_to(_ROOT).as_posix()
            if name not in found:
                found[name] = path.read_bytes()
                ahead += [module for module in imports_of(found[name]) if module.partition(".")[0] in _ROOMS]
    return found


def _files_of(module: str) -> Iterator[Path]:
    """The file of a module, if it is one, and those of the packages around it."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        place = _ROOT.joinpath(*parts[:depth])
        yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())


def imports_of(source: bytes) -> set[str]:
    """What a source file imports, anywhere in it; of `from a import b` both a and a.b, since b may be a module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def requirements(files: dict[str, bytes]) -> str:
    """What has to be installed for these files, in the releases that are installed here: a requirements.txt."""
    imported = {module.partition(".")[0] for source in files.values() for module in imports_of(source)}
    others = imported - set(_ROOMS) - set(sys.stdlib_module_names)
    names = packages_distributions()
    return _pinned({names[module][0] for module in others if module in names})


def environment() -> str:
    """Python, and every requirement of ours in the release that is installed here."""
    own = [re.match(r"[A-Za-z0-9._-]+", line) for line in _requirements() if "extra ==" not in line]
    return f"# Python {platform.python_version()}\n" + _pinned({name[0] for name in own if name is not None})


def _requirements() -> list[str]:
    try:
        return requires("mixgrid") or []
    except PackageNotFoundError:  # run from a folder, not installed
        return []


def _pinned(names: set[str]) -> str:
    return "".join(f"{name}=={version(name)}\n" for name in sorted(names, key=str.casefold))
