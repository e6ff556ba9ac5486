"""From a module's name, folder or import path to a constructed module; the model is not loaded here."""

import difflib
import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from modules import legacy
from modules.contract import Module, ModuleTraits
from modules.errors import ModuleInvalid, ModuleLoadFailed, ModuleNotFound
from modules.folders import import_folder

SHIPPED_DIR = Path(__file__).parent
NAME_RULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def shipped_names() -> list[str]:
    """The modules that come with this project: the folders beside this file that hold a `module.py`."""
    return sorted(path.parent.name for path in SHIPPED_DIR.glob("*/module.py"))


def load_module(spec: str) -> Module[Any]:
    """Constructs the module that `spec` names, and checks that it follows the contract.

    Call it from a process's main thread while it starts: importing a folder changes `sys.path` for a moment.

    Args:
        spec: `name` or `name:argument` of a shipped module; `./folder` or `/folder`, a module's or a legacy
            module's; or `package.path:Class`.

    Raises:
        ModuleNotFound: nothing is there; the message says what was looked for, and where.
        ModuleInvalid: there is no module class in it, or the class breaks the contract.
        ModuleLoadFailed: its code raised while it was imported or constructed.
    """
    head, colon, rest = spec.partition(":")
    if head in shipped_names():
        return _construct(
            _find_class(_import(f"modules.{head}.module"), spec), spec, (rest,) if colon else ()
        )
    if is_folder(spec):
        return _from_folder(Path(spec).expanduser().resolve(), spec)
    if colon and head and rest:
        return _construct(_named_class(_import(head, spec), rest, spec), spec)
    raise ModuleNotFound(_unknown(spec))


def is_folder(spec: str) -> bool:
    """Whether `spec` is written as a path rather than as a name."""
    return spec.startswith((".", "~")) or "/" in spec.partition(":")[0]


def _from_folder(folder: Path, spec: str) -> Module[Any]:
    if not folder.is_dir():
        raise ModuleNotFound(f"module {spec!r}: there is no folder {folder}")
    for file in ("module.py", "__init__.py"):
        if (folder / file).is_file() and (file == "module.py" or not (folder / "main.py").is_file()):
            return _construct(_find_class(_guarded(spec, import_folder, folder, file), spec), spec)
    if (folder / "main.py").is_file():
        return _construct(_find_class(_guarded(spec, legacy.import_main, folder), spec), spec)
    raise ModuleNotFound(f"module {spec!r}: {folder} holds no module.py, main.py or __init__.py")


def _import(path: str, spec: str = "") -> ModuleType:
    top = path.partition(".")[0]
    try:
        known = importlib.util.find_spec(path) is not None
    except (ImportError, ValueError):
        known = False
    if not known:
        raise ModuleNotFound(_unknown(spec or path, f"no package {top!r} holds {path!r}"))
    return _guarded(spec or path, importlib.import_module, path)  # type: ignore[no-any-return]


def _guarded(spec: str, call: Any, *args: Any) -> Any:
    try:
        return call(*args)
    except Exception as error:
        raise ModuleLoadFailed(f"module {spec!r}: {type(error).__name__}: {error}") from error


def _unknown(spec: str, why: str = "") -> str:
    names = shipped_names()
    close = difflib.get_close_matches(spec.partition(":")[0], names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    if Path(spec).is_dir():
        hint = f"for the folder here write './{spec}'. "
    detail = f" ({why})" if why else ""
    return (
        f"no module {spec!r}{detail}: {hint}shipped modules are {', '.join(names)}; "
        "others are named by folder (./my_folder) or import path (package.path:Class)"
    )


def _named_class(code: ModuleType, name: str, spec: str) -> type:
    found = getattr(code, name, None)
    if found is None:
        raise ModuleNotFound(f"module {spec!r}: {code.__file__} has no {name!r}")
    if not inspect.isclass(found):
        raise ModuleInvalid(f"module {spec!r}: {name!r} is not a class")
    return found


def _find_class(code: ModuleType, spec: str) -> type:
    """The one module class that `code` defines or takes from its own folder."""
    folder = Path(str(code.__file__)).parent
    classes = [value for value in vars(code).values() if inspect.isclass(value) and _is_module_class(value)]
    own = list(dict.fromkeys(value for value in classes if _defined_in(folder, value)))
    own = [
        value for value in own if not any(value is not other and issubclass(other, value) for other in own)
    ]
    if len(own) == 1:
        return own[0]
    if own:
        names = ", ".join(sorted(value.__name__ for value in own))
        raise ModuleInvalid(
            f"module {spec!r}: {code.__file__} holds several module classes ({names}); keep one"
        )
    raise ModuleInvalid(
        f"module {spec!r}: {code.__file__} holds no class with load, preprocess and infer "
        "(or, in a legacy module, with inference_by_path)"
    )


def _is_module_class(value: type) -> bool:
    return legacy.is_legacy(value) or all(
        callable(getattr(value, name, None)) for name in ("load", "preprocess", "infer")
    )


def _defined_in(folder: Path, value: type) -> bool:
    try:
        return Path(inspect.getfile(value)).resolve().is_relative_to(folder.resolve())
    except (OSError, TypeError):
        return False


def _construct(cls: type, spec: str, args: tuple[str, ...] = ()) -> Module[Any]:
    if not _is_module_class(cls):
        raise ModuleInvalid(f"module {spec!r}: {cls.__name__} lacks load, preprocess or infer")
    if legacy.is_legacy(cls):
        return legacy.LegacyModule(cls)
    _check_arguments(cls, spec, args)
    module: Module[Any] = _guarded(spec, cls, *args)
    for attribute in ("name", "version"):
        value = getattr(module, attribute, None)
        if not isinstance(value, str) or not value:
            raise ModuleInvalid(
                f"module {spec!r}: {cls.__name__}.{attribute} must be a string, not {value!r}"
            )
    if not NAME_RULE.fullmatch(module.name):
        raise ModuleInvalid(
            f"module {spec!r}: the name {module.name!r} has more than letters, digits and ._-"
        )
    ModuleTraits.of(module)
    return module


def _check_arguments(cls: type, spec: str, args: tuple[str, ...]) -> None:
    try:
        inspect.signature(cls).bind(*args)
    except TypeError:
        wanted = "takes no argument" if args else "needs an argument (write name:argument)"
        raise ModuleInvalid(f"module {spec!r}: {cls.__name__} {wanted}") from None
