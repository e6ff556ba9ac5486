"""The document's plots, from the files of figures."""

from collections.abc import Iterator, Mapping

from benchmarks.figures import Report
from benchmarks.plan import MODULES
from benchmarks.svg import Bar, Panel, bar_chart, line_chart
from benchmarks.tables import LABELS


def plots(reports: Mapping[str, Report]) -> dict[str, str]:
    """SVG text by file name, for each plot whose figures are there."""
    made = {}
    if "end_to_end" in reports:
        made["end_to_end.svg"] = bar_chart(list(_comparisons(reports["end_to_end"], reports.get("bounds"))))
    if "latency" in reports:
        made["latency.svg"] = bar_chart(list(_latencies(reports["latency"])))
    if "memory" in reports and reports["memory"].series:
        lines = [(name.partition(".")[2], points) for name, points in reports["memory"].series.items()]
        made["memory.svg"] = line_chart("resident MiB of the largest worker, by images analyzed", lines)
    return made


def _comparisons(report: Report, bounds: Report | None) -> Iterator[Panel]:
    for module in MODULES:
        bars = []
        for name, label in LABELS.items():
            value = report.value(f"end_to_end.{module}.{name}")
            if value is not None:
                bars.append(Bar(label.replace("**", ""), value, ours=name.startswith("ours")))
        bound = bounds.value(f"bounds.{module}.bound") if bounds else None
        title = f"{module}: images/s" + (" (dashed: the bound)" if bound else "")
        if bars:
            yield Panel(title, tuple(bars), bound)


def _latencies(report: Report) -> Iterator[Panel]:
    for module in MODULES:
        bars = []
        for load in (20, 50, 80):
            for percentile in ("p50", "p95", "p99"):
                value = report.value(f"latency.{module}.{load}.{percentile}")
                if value is not None:
                    bars.append(Bar(f"{load} % load, {percentile}", value, ours=percentile == "p99"))
        if bars:
            target = report.value(f"latency.{module}.target_p99_at_20")
            yield Panel(f"{module}: ms from publishing to the committed result", tuple(bars), target)
