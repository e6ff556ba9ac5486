"""Names for supervisors that share a machine, so that no two use one transactional id."""

import fcntl
import os
import stat
import tempfile
from pathlib import Path
from typing import IO

from infra.settings import SettingError

SLOT_DIR = Path(tempfile.gettempdir()) / f"analysis-analyzers-{os.getuid()}"


class Slot:
    """The lowest number that no other supervisor of this user on this machine holds.

    A restarted supervisor usually gets its former number, and with it the transactional ids that end its
    predecessor's open transactions at once. Its workers hold the number too: those of a supervisor that was
    killed still finish what they began, and another with their ids would fence them, and they it. The locks
    end with the processes, however those die.
    """

    def __init__(self, folder: Path = SLOT_DIR) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self.path: Path | None = None
        """The lock, once a number is claimed."""

    @property
    def folder(self) -> Path:
        """What this user's supervisors on this machine share."""
        return self._folder

    def claim(self) -> int:
        """Takes a number until `release`, or the end of the process."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise SettingError(f"{self._folder} belongs to somebody else; set TMPDIR to a folder of your own")
        number = 0
        while not self._try(number):
            number += 1
        return number

    def release(self) -> None:
        """Gives the number back."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _try(self, number: int) -> bool:
        path = self._folder / f"{number}.lock"
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "rb+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Nobody has it. From here on it is shared, with the workers.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        self.path = path
        return True


def share(path: Path) -> IO[bytes]:
    """Holds a supervisor's number in one of its workers, until the file is closed or the process ends."""
    file = path.open("rb")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file
