"""What a module's folder says it needs beyond this project's own packages: its `requirements.txt`."""

import importlib.metadata
import re
from pathlib import Path

REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?\s*(==\s*(?P<version>[^\s;#]+))?")


def missing(folder: Path) -> list[str]:
    """The lines of the folder's `requirements.txt` that are not installed; `==` is the only rule checked."""
    file = folder / "requirements.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    named = [line.strip() for line in lines if line.strip() and not line.strip().startswith(("#", "-"))]
    return [line for line in named if not _installed(line)]


def install_command(folder: Path) -> str | None:
    """What to run for the folder's requirements; None where it has none.

    A file that speaks of `--no-deps`, because its packages pin versions older than ours, is installed so.
    """
    file = folder / "requirements.txt"
    if not file.is_file():
        return None
    flag = "--no-deps " if "--no-deps" in file.read_text(encoding="utf-8") else ""
    return f"uv pip install {flag}-r {file}"


def explained(error: BaseException, folder: Path) -> str:
    """An exception in words; where a package is missing, with the command that installs it."""
    text = f"{type(error).__name__}: {error}"
    command = install_command(folder) if isinstance(error, ModuleNotFoundError) else None
    return f"{text}; its requirements are installed with `{command}`" if command else text


def _installed(line: str) -> bool:
    match = REQUIREMENT.match(line)
    if match is None:
        return True
    try:
        found = importlib.metadata.version(match["name"])
    except importlib.metadata.PackageNotFoundError:
        return False
    return match["version"] is None or match["version"] == found
