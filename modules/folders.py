"""Importing code from a folder that is no installed package, without disturbing the rest of the process."""

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


def import_folder(folder: Path, file: str) -> ModuleType:
    """Imports `file` of `folder` as part of a package with a name of its own.

    Relative imports, plain imports of sibling files and the old server's `from Modules.… import` all work.
    """
    package = f"_module_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    with importable(folder):
        try:
            _import_package(package, folder)
            stem = Path(file).stem
            return (
                sys.modules[package] if stem == "__init__" else importlib.import_module(f"{package}.{stem}")
            )
        except BaseException:
            for name in [name for name in sys.modules if name.partition(".")[0] == package]:
                del sys.modules[name]
            raise


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Lets plain imports find the folder's own files first, also where another module has taken the name.

    Modules of other code under the names of the folder's files (`utils`, say) are set aside and put back.
    Afterwards the folder stays importable in last place, for imports that its functions do later.
    """
    paths = [str(folder), *map(str, module_roots(folder))]
    hidden = {name: sys.modules.pop(name) for name in _taken_names(folder)}
    sys.path[:0] = paths
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for path in paths:
            sys.path.remove(path)
            if path not in sys.path:
                sys.path.append(path)
        sys.modules.update(hidden)


def module_roots(folder: Path) -> list[Path]:
    """The folders that hold a `Modules` folder: from `MODULE_PATH`, then among the folder's own parents.

    An entry of `MODULE_PATH` may be that folder or the `Modules` folder in it; `:` separates several.
    """
    given = [Path(entry).expanduser().resolve() for entry in _module_path().split(os.pathsep) if entry]
    roots = [entry.parent if entry.name == "Modules" else entry for entry in given]
    roots += [parent.parent for parent in folder.parents if parent.name == "Modules"]
    return list(dict.fromkeys(roots))


def _module_path() -> str:
    return os.environ.get("MODULE_PATH", "")


def _import_package(name: str, folder: Path) -> None:
    if name in sys.modules:
        return
    init = folder / "__init__.py"
    if not init.is_file():
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
        return
    spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


def _taken_names(folder: Path) -> list[str]:
    """Names in `sys.modules` that the folder's imports mean for its own files, but that others have."""
    files = {path.stem for path in folder.glob("*.py")}
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    own = (files | packages | {"Modules"}) - sys.stdlib_module_names - {"__main__", "__init__"}
    inside = [folder, *(root / "Modules" for root in module_roots(folder))]
    return [
        name
        for name, code in list(sys.modules.items())
        if name.partition(".")[0] in own and not any(_lies_in(place, code) for place in inside)
    ]


def _lies_in(folder: Path, code: ModuleType) -> bool:
    """Whether a module's file, or for a package without one its folder, is inside `folder`."""
    file = getattr(code, "__file__", None) or next(iter(getattr(code, "__path__", [])), None)
    return file is not None and Path(file).is_relative_to(folder)
