"""From a module's name, folder or import path to a module that follows the contract."""

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from modules.contract import Module, ModuleTraits
from modules.errors import ModuleInvalid, ModuleLoadFailed, ModuleNotFound
from modules.folders import import_folder, importable, module_roots
from modules.legacy import LegacyModule, is_legacy
from modules.requirements import explained
from schemas.errors import AnalysisError

R = TypeVar("R")

SHIPPED_DIR = Path(__file__).parent
ENTRY_FILES = ("module.py", "main.py", "__init__.py")
"""Where a folder's module class is looked for: the first of these that is there."""
METHODS = ("load", "preprocess", "infer")
NAME_RULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def shipped_names() -> list[str]:
    """The modules that come with this project: the folders beside this file that hold a `module.py`."""
    return sorted(path.parent.name for path in SHIPPED_DIR.glob("*/module.py"))


def shipped_class(name: str) -> type:
    """The class of a shipped module; importing it imports no framework, that waits for `load`."""
    return _find_class(_import(f"modules.{name}.module", name), name)


def load_module(spec: str) -> Module[Any]:
    """Constructs the module that `spec` names and checks its attributes; its model is not loaded yet.

    Call it in a process's main thread while it starts: importing a folder changes `sys.path` for a moment.

    Args:
        spec: `name` or `name:argument` of a shipped module; the folder of a module or of a legacy module,
            as `./folder`, `~/folder` or `/folder`; or `package.path:Class`.

    Raises:
        ModuleNotFound: nothing is there; the message says what was looked for, and where.
        ModuleInvalid: there is no module class in it, or the class breaks the contract.
        ModuleLoadFailed: its code raised while it was imported or constructed.
    """
    head, colon, rest = spec.partition(":")
    if head in shipped_names():
        return _construct(shipped_class(head), spec, (rest,) if colon else ())
    if spec.startswith((".", "~")) or "/" in head:
        return _from_folder(Path(spec).expanduser().resolve(), spec)
    if head and rest:
        _append_to_path(*module_roots(Path.cwd()), Path.cwd())
        return _construct(_named_class(_import(head, spec), rest, spec), spec)
    raise ModuleNotFound(_unknown(spec))


def load_model(module: Module[Any], device: str) -> None:
    """Calls `module.load(device)`.

    Raises:
        ModuleLoadFailed: it raised; the message says what, and how to install what it lacks.
    """
    folder = _folder_of(type(module))
    _guarded(module.name, folder, module.load, device)


def _from_folder(folder: Path, spec: str) -> Module[Any]:
    if not folder.is_dir():
        raise ModuleNotFound(f"module {spec!r}: there is no folder {folder}")
    file = next((name for name in ENTRY_FILES if (folder / name).is_file()), None)
    if file is None:
        raise ModuleNotFound(f"module {spec!r}: {folder} holds none of {', '.join(ENTRY_FILES)}")
    code = _guarded(spec, folder, import_folder, folder, file)
    with importable(folder):
        return _construct(_find_class(code, spec), spec)


def _import(path: str, spec: str) -> ModuleType:
    try:
        return _guarded(spec, SHIPPED_DIR, importlib.import_module, path)
    except ModuleLoadFailed as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and f"{path}.".startswith(f"{cause.name}."):
            raise ModuleNotFound(_unknown(spec, f" (Python finds no {cause.name!r})")) from None
        raise


def _guarded(spec: str, folder: Path, call: Callable[..., R], *args: Any) -> R:
    """Calls code that is not ours: whatever it raises becomes one error that names the module."""
    try:
        return call(*args)
    except AnalysisError:
        raise
    except Exception as error:
        raise ModuleLoadFailed(f"module {spec!r}: {explained(error, folder)}") from error


def _append_to_path(*folders: Path) -> None:
    sys.path.extend(str(folder) for folder in folders if str(folder) not in sys.path)


def _unknown(spec: str, why: str = "") -> str:
    names = shipped_names()
    close = difflib.get_close_matches(spec.partition(":")[0], names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    if Path(spec).is_dir():
        hint = f"did you mean the folder './{spec}'? "
    return (
        f"no module {spec!r}{why}: {hint}Shipped modules are {', '.join(names)}; others are named "
        "by folder (./my_folder) or import path (package.path:Class)"
    )


def _named_class(code: ModuleType, name: str, spec: str) -> type:
    found = getattr(code, name, None)
    if found is None:
        raise ModuleNotFound(f"module {spec!r}: {code.__file__} has no {name!r}")
    if not inspect.isclass(found):
        raise ModuleInvalid(f"module {spec!r}: {name!r} is not a class")
    return found


def _find_class(code: ModuleType, spec: str) -> type:
    """The one module class that a file defines, or takes from its own folder; bases of it do not count."""
    folder = Path(str(code.__file__)).parent
    classes = {value for value in vars(code).values() if inspect.isclass(value) and _is_module_class(value)}
    own = [value for value in classes if _folder_of(value).is_relative_to(folder)]
    own = [value for value in own if not any(value is not one and issubclass(one, value) for one in own)]
    if not own:
        raise ModuleInvalid(
            f"module {spec!r}: {code.__file__} holds no class with the methods {', '.join(METHODS)} "
            "(or, for a legacy module, inference_by_path)"
        )
    if len(own) > 1:
        names = ", ".join(sorted(value.__name__ for value in own))
        raise ModuleInvalid(
            f"module {spec!r}: {code.__file__} holds several module classes ({names}); leave one in it"
        )
    return own[0]


def _is_module_class(value: type) -> bool:
    return is_legacy(value) or all(callable(getattr(value, name, None)) for name in METHODS)


def _folder_of(cls: type) -> Path:
    try:
        return Path(inspect.getfile(cls)).resolve().parent
    except (OSError, TypeError):  # a class of the interpreter's own has no file
        return Path("/nowhere")


def _construct(cls: type, spec: str, args: tuple[str, ...] = ()) -> Module[Any]:
    absent = [name for name in METHODS if not callable(getattr(cls, name, None))]
    if is_legacy(cls) and absent:
        return _conforming(LegacyModule(cls), spec)
    if absent:
        raise ModuleInvalid(f"module {spec!r}: {cls.__name__} lacks the methods {', '.join(absent)}")
    try:
        inspect.signature(cls).bind(*args)
    except TypeError:
        wanted = "takes no argument" if args else "needs an argument: write name:argument"
        raise ModuleInvalid(f"module {spec!r}: {cls.__name__} {wanted}") from None
    return _conforming(_guarded(spec, _folder_of(cls), cls, *args), spec)


def _conforming(module: Module[Any], spec: str) -> Module[Any]:
    for attribute in ("name", "version"):
        value = getattr(module, attribute, None)
        if not isinstance(value, str) or not value:
            raise ModuleInvalid(
                f"module {spec!r}: its attribute {attribute!r} is {value!r}, not a string with text in it"
            )
    if not NAME_RULE.fullmatch(module.name):
        raise ModuleInvalid(
            f"module {spec!r}: its name {module.name!r} may hold letters, digits and ._- only (100 at most)"
        )
    ModuleTraits.of(module)
    return module
