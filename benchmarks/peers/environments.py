"""Python environments for peers whose packages have no place in the project's own.

Each holds what its hash-locked `requirements.txt` says, and then, for torch, sees the packages of the
environment that made it. `python -m benchmarks.peers.environments` locks them anew, at the versions of
the project's own lock where both name a package.
"""

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from benchmarks.peers.errors import PeerFailed
from infra.local.jars import cache_folder
from infra.settings import project_dir

INSTALL_S = 600

_FOLDER = Path(__file__).parent
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class ProjectEnvironment:
    """The environment that this program runs in, which has the packages of some peers."""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return Path(sys.executable)

    def ready(self) -> bool:
        """It is there already."""
        return True

    def prepare(self) -> None:
        """There is nothing to do."""

    def version(self, package: str) -> str:
        """The version of a package in it."""
        return importlib.metadata.version(package)


class Environment(ProjectEnvironment):
    """The environment of the peer whose folder has this name."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self._folder / "bin" / "python"

    def ready(self) -> bool:
        """Whether it was made in full."""
        return self._complete.exists()

    def prepare(self) -> None:
        """Makes it, where that was not done before.

        Raises:
            PeerFailed: there is no uv, or it failed.
        """
        if self.ready():
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        _uv("venv", "--quiet", "--python", sys.executable, str(self._folder))
        where = ("--python", str(self.python), "--require-hashes")
        _uv("pip", "install", "--quiet", *where, "-r", str(self._requirements))
        # Lines of a .pth file come after the environment's own packages, which therefore win.
        (self._packages / "project.pth").write_text(sysconfig.get_path("platlib") + "\n")
        self._complete.touch()

    def version(self, package: str) -> str:
        """The version of a package in it."""
        found = importlib.metadata.distributions(name=package, path=[str(self._packages)])
        return next(iter(found)).version

    @property
    def _requirements(self) -> Path:
        return _FOLDER / self._name / "requirements.txt"

    @property
    def _folder(self) -> Path:
        content = self._requirements.read_bytes() + _PYTHON.encode() + sys.prefix.encode()
        return cache_folder().parent / "peers" / f"{self._name}-{hashlib.sha256(content).hexdigest()[:12]}"

    @property
    def _complete(self) -> Path:
        return self._folder / "complete"

    @property
    def _packages(self) -> Path:
        return self._folder / "lib" / f"python{_PYTHON}" / "site-packages"


def lock(name: str) -> None:
    """Resolves a peer's requirements anew, with what the project itself needs at the project's versions."""
    folder = _FOLDER / name
    shared = (_FOLDER / "requirements.in").read_text().splitlines()
    pins = (project_dir() / "requirements.txt").read_text().splitlines()
    pins = [pin.removesuffix("\\").strip() for pin in pins if pin.partition("==")[0] in shared]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(pins))
        constraints.flush()
        options = ("--universal", "--python-version", "3.11", "--generate-hashes", "--upgrade")
        terse = ("--no-header", "--no-annotate", "-c", constraints.name)
        source, target = str(folder / "requirements.in"), str(folder / "requirements.txt")
        _uv("pip", "compile", "--quiet", *options, *terse, source, "-o", target)


def _uv(*arguments: str) -> None:
    program = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerFailed(f"uv cannot be run: {error}") from None
    if done.returncode:
        raise PeerFailed(f"uv {' '.join(arguments[:2])} failed: {done.stderr.strip()}")


if __name__ == "__main__":
    for peer in ("celery", "quix", "ray"):
        lock(peer)
