"""Running a program that refuses root: as which user, and where that user can reach files."""

import hashlib
import os
import pwd
from pathlib import Path

from infra.local.process import User
from infra.settings import SettingError
from schemas.errors import AnalysisError, ErrorCode

_ACCOUNTS = ("postgres", "nobody")
# Only root comes here. Not /var/tmp: systems delete there what nobody has read for 30 days.
_OPEN_PLACE = Path("/var/lib")


def replacement_for_root() -> User | None:
    """The user to run as where we are root; None where we are not, and run it ourselves."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(uid=account.pw_uid, gid=account.pw_gid)
    raise AnalysisError(
        ErrorCode.STACK_START_FAILED,
        f"PostgreSQL refuses to run as root, and there is no account {' or '.join(_ACCOUNTS)} to run it as",
    )


def passable(folder: Path) -> bool:
    """Whether any user may pass through this folder and all that it lies in."""
    return all(place.stat().st_mode & 0o001 for place in (folder, *folder.parents))


def reachable_folder(wanted: Path, user: User | None) -> Path:
    """`wanted`, or, where `user` cannot reach it, a folder of the same purpose that every user can reach."""
    if user is None or passable(wanted.parent):
        return wanted
    name = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
    return _OPEN_PLACE / f"analysis-{wanted.name}-{name}"


def make_private_folder(folder: Path, user: User | None) -> None:
    """Makes a folder that belongs to `user` (to us, if None) and that nobody else can enter.

    Raises:
        SettingError: something of another owner is in its place.
    """
    owner = os.geteuid() if user is None else user.uid
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        found = folder.lstat()
        if not folder.is_dir() or folder.is_symlink() or found.st_uid not in (owner, os.geteuid()):
            raise SettingError(f"LOCAL_DIR: {folder} is not a folder of user {owner}; remove it") from None
    folder.chmod(0o700)
    give(folder, user)


def give(path: Path, user: User | None) -> None:
    """Makes `user` the owner of a file or folder; of ours, if None."""
    if user is not None:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
