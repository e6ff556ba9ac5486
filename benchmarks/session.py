"""One command's measurements: each kind of them, and the files that they end in."""

import sys
from pathlib import Path

from benchmarks import bounds, end_to_end, figures, growth, latency, machine, pass_through, stages, tables
from benchmarks.errors import NotMeasured
from benchmarks.figures import Sheet
from benchmarks.plan import MODULES, Plan
from benchmarks.progress import say
from benchmarks.usage import Servers
from benchmarks.workload import Workplace


class Session:
    """Measures on one set of images.

    Args:
        results: the folder that the files go to, and that earlier figures are read from.
    """

    def __init__(self, place: Workplace, servers: Servers, results: Path) -> None:
        self._place = place
        self._servers = servers
        self._results = results

    def compare(self, plan: Plan) -> None:
        """The comparison and its bounds."""
        compared, limits = end_to_end.measure(self._place, self._servers, plan)
        self.keep("bounds", limits)
        self.keep("end_to_end", compared)

    def limit(self, modules: tuple[str, ...], workers: int) -> None:
        """The bounds alone."""
        sheet, kafka_ms = Sheet(), pass_through.kafka_ms(self._place, self._servers)
        for module in modules:
            say(f"bounds of {module}")
            found = bounds.measure(self._place, self._servers, MODULES[module], workers, kafka_ms)
            bounds.record(sheet, module, found)
        self.keep("bounds", sheet)

    def delay(self, modules: tuple[str, ...], seconds: float, workers: int) -> None:
        """Latency, at shares of the rates that were measured last."""
        sheet = Sheet()
        for module in modules:
            peak = self._measured("end_to_end", f"end_to_end.{module}.ours")
            single_ms = self._measured("bounds", f"bounds.{module}.single_image")
            latency.measure(self._place, module, peak, single_ms, seconds, workers, sheet)
        self.keep("latency", sheet)

    def scale(self, modules: tuple[str, ...], seconds: float) -> None:
        """Partitions and workers."""
        sheet = Sheet()
        for module in modules:
            guess = self._measured("end_to_end", f"end_to_end.{module}.ours")
            growth.scaling(self._place, self._servers, module, seconds, guess, sheet)
        self.keep("scaling", sheet)

    def pile_up(self, modules: tuple[str, ...], at_most: int) -> None:
        """Backlogs."""
        sheet, sizes = Sheet(), [size for size in growth.BACKLOGS if size <= at_most]
        for module in modules:
            growth.backlog(self._place, self._servers, module, sizes, sheet)
        self.keep("backlog", sheet)

    def remember(self, modules: tuple[str, ...], images: int) -> None:
        """Memory."""
        sheet = Sheet()
        for module in modules:
            growth.memory(self._place, module, images, sheet)
        self.keep("memory", sheet)

    def start_up(self, modules: tuple[str, ...], rounds: int) -> None:
        """Start-up."""
        sheet = Sheet()
        for _ in range(rounds):
            for module in modules:
                growth.startup(self._place, module, sheet)
        self.keep("startup", sheet)

    def dissect(self, modules: tuple[str, ...], seconds: float, workers: int) -> None:
        """Stages and the CPU profile."""
        sheet = Sheet()
        for module in modules:
            peak = self._measured("end_to_end", f"end_to_end.{module}.ours")
            stages.measure(self._place, module, round(peak * seconds), workers, sheet)
        self.keep("stages", sheet)

    def keep(self, name: str, sheet: Sheet) -> None:
        """Shows the figures and writes their file."""
        report = sheet.report(machine.describe(), " ".join(("python -m benchmarks", *sys.argv[1:])))
        tables.show(name, report)
        say(f"written to {figures.write(name, report, self._results)}")

    def _measured(self, report: str, figure: str) -> float:
        """A figure that others build on.

        Raises:
            NotMeasured: there is none yet.
        """
        found = figures.read_all(self._results).get(report)
        value = found.value(figure) if found else None
        if value is None:
            raise NotMeasured(figure)
        return value
