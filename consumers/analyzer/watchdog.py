"""A supervisor's eye on one worker process: whether it hangs, and how it ends."""

import logging
import os
import signal
import time
from collections import deque
from multiprocessing.process import BaseProcess

from consumers.analyzer.deaths import Deaths, OutOfMemoryKills, blame, describe, is_stopped
from consumers.analyzer.flight import HangWatch, LoopWatch, read_flight
from infra.exit_codes import ExitCode
from schemas.errors import ErrorCode

logger = logging.getLogger(__name__)

SHOW_STACKS = signal.SIGUSR1
"""Has a worker write every thread's stack to the log."""
STUCK_S = 40.0
"""A main loop that is silent so long is stuck: no call in it may wait longer than half of that. Kafka's
client does not always keep the time-outs it is given."""
STACKS_S = 1.0
"""How long a worker has to write its stacks before it is killed."""
CRASHES_S = 600.0


class Watchdog:
    """Watches one process, from its start to its end.

    Args:
        name: the worker's, for the log.
        owner: under which the process keeps its record.
    """

    def __init__(self, name: str, owner: str, deaths: Deaths, memory_kills: OutOfMemoryKills) -> None:
        self._name = name
        self._owner = owner
        self._deaths = deaths
        self._memory_kills = memory_kills
        self._loop = LoopWatch(STUCK_S)
        self._hangs = HangWatch()
        self._kill_at_s: float | None = None
        self._hung = False

    def look(self, process: BaseProcess, now_s: float) -> None:
        """Ends the process if it hangs: first it shows where, then it is killed."""
        if process.pid is None or process.exitcode is not None:
            return
        if self._kill_at_s is not None:
            if now_s >= self._kill_at_s:
                process.kill()
            return
        flight = read_flight(self._deaths.flight_path(self._owner))
        if flight is None:
            return
        if is_stopped(process.pid):
            # Somebody has frozen it, for a debugger say: nothing in it takes too long.
            self._loop, self._hangs = LoopWatch(STUCK_S), HangWatch()
        elif self._hangs.look(flight, now_s):
            self._hung = True
            self._end(
                process.pid, now_s, f"a call into the module has not returned for {flight.timeout_s:g} s"
            )
        elif self._loop.look(flight, self._hangs.longest_s, now_s):
            self._end(process.pid, now_s, "its main loop is stuck")

    def note_end(self, status: int) -> ErrorCode | None:
        """Leaves word of the end for those who take the worker's partitions over.

        Returns:
            The code, if the worker's own work is to blame.
        """
        path = self._deaths.flight_path(self._owner)
        flight = read_flight(path)
        if status == ExitCode.OK and (flight is None or flight.ended_itself):
            self._deaths.forget(self._owner)
            return None
        killed_by_others = status == -signal.SIGKILL and self._kill_at_s is None
        out_of_memory = killed_by_others and self._memory_kills.recent(time.monotonic())
        code = blame(status, flight, hung=self._hung, out_of_memory=out_of_memory)
        reason = describe(status) + (", for want of memory" if out_of_memory else "")
        try:
            self._deaths.record(self._owner, code, reason)
        except OSError as error:
            logger.warning("how %s died cannot be kept: %s", self._name, error)
        if code is not None:
            images = len(flight.held) if flight is not None else 0
            logger.error("%s died of its own work (%s): %s, with %d images", self._name, code, reason, images)
        return code

    def _end(self, pid: int, now_s: float, why: str) -> None:
        logger.error("%s: %s; it is stopped", self._name, why)
        self._kill_at_s = now_s + STACKS_S
        os.kill(pid, SHOW_STACKS)


class CrashBrake:
    """Tells when a module kills so many workers that images cannot be the cause.

    Args:
        most: crashes and hangs that are borne within ten minutes; 0 for any number.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._crashed_at_s: deque[float] = deque()

    def count(self, now_s: float) -> bool:
        """Counts one more; returns whether that is too many."""
        self._crashed_at_s.append(now_s)
        while self._crashed_at_s[0] < now_s - CRASHES_S:
            self._crashed_at_s.popleft()
        too_many = 0 < self._most < len(self._crashed_at_s)
        if too_many:
            logger.error(
                "%s: %d workers crashed or hung within ten minutes (ANALYZER_MAX_CRASHES=%d)",
                ErrorCode.TOO_MANY_FAILURES,
                len(self._crashed_at_s),
                self._most,
            )
        return too_many
