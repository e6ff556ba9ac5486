"""Names for supervisors that share a machine, so that no two use one transactional id."""

import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

SLOT_DIR = Path(tempfile.gettempdir()) / f"analysis-analyzers-{os.getuid()}"


class Slot:
    """The lowest number that no other supervisor of this user on this machine holds.

    A restarted supervisor usually gets its former number, and with it the transactional ids that end its
    predecessor's open transactions at once. The lock ends with the process, however that dies.
    """

    def __init__(self, folder: Path = SLOT_DIR) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def claim(self) -> int:
        """Takes a number until `release`, or the end of the process."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
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
        file = (self._folder / f"{number}.lock").open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._file = file
        return True
