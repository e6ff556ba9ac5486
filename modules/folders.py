"""Importing code from a folder that is no installed package, without disturbing the rest of the process."""

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


def import_folder(folder: Path, file: str) -> ModuleType:
    """Imports `file` of `folder` under a name of its own; siblings are importable by their plain names."""
    path = folder / file
    name = f"_module_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    locations = [str(folder)] if file == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=locations)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not Python code")
    code = importlib.util.module_from_spec(spec)
    sys.modules[name] = code
    try:
        with importable(folder):
            spec.loader.exec_module(code)
    except BaseException:
        del sys.modules[name]
        raise
    return code


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Lets plain `import sibling` find the folder's own files first, also where such a name is taken.

    Modules of other code under the names of the folder's files (`utils`, say) are set aside and put back.
    Afterwards the folder stays importable in last place, for imports that its functions do later.
    """
    path = str(folder)
    hidden = {name: sys.modules.pop(name) for name in _taken_names(folder)}
    sys.path.insert(0, path)
    try:
        yield
    finally:
        sys.path.remove(path)
        if path not in sys.path:
            sys.path.append(path)
        sys.modules.update(hidden)


def _taken_names(folder: Path) -> list[str]:
    """Names in `sys.modules` that the folder's files would have, loaded from elsewhere."""
    own = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    own -= sys.stdlib_module_names
    taken = [name for name in sys.modules if name.partition(".")[0] in own and name != "__main__"]
    return [name for name in taken if not _lies_in(folder, sys.modules[name])]


def _lies_in(folder: Path, code: ModuleType) -> bool:
    file = getattr(code, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)
