"""Figures: what is measured, its medians over rounds, and the file that keeps them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec

RESULTS = Path(__file__).parent / "results"


class Figure(msgspec.Struct, frozen=True):
    """One number: the median of its rounds."""

    name: str
    value: float
    unit: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one command measured, and where: a file of `benchmarks/results`."""

    machine: str
    date: str
    command: str = ""
    figures: tuple[Figure, ...]
    rounds: dict[str, tuple[float, ...]] = {}
    """The values that a median is of, in the order in which they were measured."""
    series: dict[str, tuple[tuple[float, float], ...]] = {}
    """Points of plots."""
    versions: dict[str, str] = {}
    """Each contender's versions."""
    notes: dict[str, str] = {}
    """What was not measured, and why."""

    def value(self, name: str) -> float | None:
        """A figure's value; None where it was not measured."""
        return next((figure.value for figure in self.figures if figure.name == name), None)

    def spread(self, name: str) -> tuple[float, float] | None:
        """The least and the greatest of a figure's rounds."""
        values = self.rounds.get(name)
        return (min(values), max(values)) if values else None


class Sheet:
    """Values as they come in, round by round; its figures are their medians."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._units: dict[str, str] = {}
        self.series: dict[str, list[tuple[float, float]]] = {}
        self.notes: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def add(self, name: str, value: float, unit: str) -> None:
        """Takes one round's value."""
        self._values.setdefault(name, []).append(value)
        self._units[name] = unit

    def median(self, name: str) -> float | None:
        """The median so far; None where nothing was measured."""
        values = self._values.get(name)
        return median(values) if values else None

    def add_ratio(self, name: str, above: str, below: str) -> None:
        """Adds the ratio of two medians as a figure of its own; nothing where one is missing."""
        numerator, denominator = self.median(above), self.median(below)
        if numerator is not None and denominator:
            self.add(name, numerator / denominator, "x")

    def figures(self) -> tuple[Figure, ...]:
        """All medians, in the order in which they were first measured."""
        return tuple(
            Figure(name, rounded(median(values)), self._units[name]) for name, values in self._values.items()
        )

    def report(self, machine: str, command: str) -> Report:
        """What is kept."""
        several = {name: values for name, values in self._values.items() if len(values) > 1}
        return Report(
            machine=machine,
            date=str(datetime.now(UTC).date()),
            command=command,
            figures=self.figures(),
            rounds={name: tuple(map(rounded, values)) for name, values in several.items()},
            series={name: tuple(points) for name, points in self.series.items()},
            versions=self.versions,
            notes=self.notes,
        )


def rounded(value: float) -> float:
    """Four significant digits: none of the later ones would be the same tomorrow."""
    return float(f"{value:.4g}")


def write(name: str, report: Report, folder: Path = RESULTS) -> Path:
    """Keeps a report as `<name>.json`."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return path


def read_all(folder: Path = RESULTS) -> Mapping[str, Report]:
    """Every report that was kept, by name."""
    return {
        path.stem: msgspec.json.decode(path.read_bytes(), type=Report)
        for path in sorted(folder.glob("*.json"))
    }
