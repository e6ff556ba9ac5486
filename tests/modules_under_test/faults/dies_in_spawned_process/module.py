import multiprocessing
import os

from modules.dummy.module import Dummy


class DiesInSpawnedProcess(Dummy):
    """Takes a process that was spawned down with it."""

    def load(self, device: str) -> None:
        if multiprocessing.parent_process() is not None:
            os._exit(1)
