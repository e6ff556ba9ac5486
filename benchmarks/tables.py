"""Tables of figures, for the terminal and for the document alike."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from benchmarks.figures import Report
from benchmarks.plan import MODULES
from benchmarks.progress import show as print_table

LABELS: Mapping[str, str] = {
    "ours": "**this project**",
    "ours_rows": "**this project**, until rows are in PostgreSQL",
    "celery": "Celery on RabbitMQ (rows)",
    "plain_loop": "plain confluent-kafka loop",
    "faust": "Faust agent",
    "quix": "Quix Streams",
    "ray": "Ray",
}
STAGES = ("fetch", "decode", "preprocess", "infer", "publish")
NOTHING = "-"
WITHOUT_LIMIT = 1_000_000
"""Above it, a figure says only that something takes no time: a module without a model."""


class Table(msgspec.Struct, frozen=True):
    """A title, column heads, and rows of text; the first column holds names."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def show(name: str, report: Report) -> None:
    """Prints a report's tables, and why something is missing."""
    for table in tables(name, report):
        rows = [[cell.replace("**", "") for cell in row] for row in table.rows]
        print_table(table.title, table.columns, rows)


def tables(name: str, report: Report) -> list[Table]:
    """The tables of a report; none that would be empty."""
    made = _MAKERS[name](report) if name in _MAKERS else ()
    return [table for table in made if table.rows]


def number(value: float | None, unit: str = "") -> str:
    """A figure to three digits, with its unit."""
    if value is None:
        return NOTHING
    if value >= WITHOUT_LIMIT:
        return f"over {WITHOUT_LIMIT:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{' ' + unit if unit else ''}"


def _end_to_end(report: Report) -> Iterator[Table]:
    for module in MODULES:
        rows = [_contender(report, module, name) for name in LABELS]
        measured = report.value(f"end_to_end.{module}.ours") is not None
        title = f"{module}: end to end{_efficiency(report, module)}"
        yield Table(title, _COMPARISON, tuple(row for row in rows if row) if measured else ())


def _efficiency(report: Report, module: str) -> str:
    figure = f"end_to_end.{module}.efficiency"
    efficiency, spread = report.value(figure), report.spread(figure)
    if efficiency is None:
        return ""
    said = f"; this project reaches {efficiency:.0%} of the bound"
    return said + (f" ({spread[0]:.0%} to {spread[1]:.0%} over the rounds)" if spread else "")


_COMPARISON = (
    "",
    "images/s",
    "least to most",
    "steady",
    "this project is",
    "CPU s / 1,000 images",
    "servers' CPU s / 1,000",
    "cores used",
)


def _contender(report: Report, module: str, name: str) -> tuple[str, ...] | None:
    """One row; None for a contender that was not asked for."""
    figure = f"end_to_end.{module}.{name}"
    if report.value(figure) is None:
        reason = report.notes.get(f"{module}.{name}") or report.notes.get(name)
        return (LABELS[name], NOTHING, reason.splitlines()[0], *5 * (NOTHING,)) if reason else None
    spread = report.spread(figure)
    shares = ("cpu_per_1000_images", "servers_cpu_per_1000_images", "cores_used")
    return (
        LABELS[name],
        number(report.value(figure)),
        f"{number(spread[0])} to {number(spread[1])}" if spread else "one round",
        number(report.value(f"{figure}.steady")),
        _ratio(report, module, name),
        *(number(report.value(f"{figure}.{share}")) for share in shares),
    )


def _ratio(report: Report, module: str, name: str) -> str:
    ratio = report.value(f"end_to_end.{module}.ratio.{name}")
    to_rows = report.value(f"end_to_end.{module}.rows_ratio.{name}")
    if ratio is None:
        return NOTHING
    return f"{number(ratio)}x" + (f" ({number(to_rows)}x to rows)" if to_rows else "")


def _bounds(report: Report) -> Iterator[Table]:
    lines = {
        "fetch, CPU ms an image": "fetch_cpu",
        "decode, CPU ms an image": "decode_cpu",
        "preprocess, CPU ms an image": "preprocess_cpu",
        "infer, CPU ms an image": "infer_cpu",
        "object store, CPU ms an image": "s3_cpu",
        "Kafka, CPU ms an image": "kafka_cpu",
        "sum, CPU ms an image": "cpu",
        "cores allow, images/s": "cores_allow",
        "fetch + decode alone, images/s": "fetch_decode_alone",
        "module alone, images/s": "module_alone",
        "its best batch, images": "best_batch",
        "**bound, images/s**": "bound",
        "beside it: decode in full, CPU ms an image": "decode_full_cpu",
        "beside it: preprocess in full, CPU ms an image": "preprocess_full_cpu",
    }
    yield _by_module("bounds: each part alone", report, "bounds", lines)


def _latency(report: Report) -> Iterator[Table]:
    for module in MODULES:
        rows = tuple(
            (f"{load} %", *(number(report.value(f"latency.{module}.{load}.{each}")) for each in _LATENCIES))
            for load in (20, 50, 80)
            if report.value(f"latency.{module}.{load}.p50") is not None
        )
        target = number(report.value(f"latency.{module}.target_p99_at_20"), "ms")
        title = f"{module}: latency in ms; target of p99 at 20 %: {target}"
        yield Table(title, ("load", "images/s", "p50", "p95", "p99"), rows)


_LATENCIES = ("rate", "p50", "p95", "p99")


def _scaling(report: Report) -> Iterator[Table]:
    workers = (1, 2, 4, 8)
    for module in MODULES:
        rows = tuple(
            (str(partitions), *(number(_scaled(report, module, partitions, each)) for each in workers))
            for partitions in (1, 2, 4, 8)
            if _scaled(report, module, partitions, 1) is not None
        )
        columns = ("partitions", *(f"{each} worker{'s' if each > 1 else ''}" for each in workers))
        yield Table(f"{module}: images/s by partitions and workers", columns, rows)


def _scaled(report: Report, module: str, partitions: int, workers: int) -> float | None:
    return report.value(f"scaling.{module}.partitions_{partitions}.workers_{workers}")


def _backlog(report: Report) -> Iterator[Table]:
    for module in MODULES:
        prefix = f"backlog.{module}"
        rows = tuple(
            (
                f"{size:,}",
                number(report.value(f"{prefix}.{size}")),
                number(report.value(f"{prefix}.{size}.cpu_per_1000_images")),
            )
            for size in (1_000, 10_000, 100_000)
            if report.value(f"{prefix}.{size}") is not None
        )
        yield Table(f"{module}: backlog", ("images waiting", "images/s", "CPU s / 1,000 images"), rows)


def _memory(report: Report) -> Iterator[Table]:
    lines = {
        "a worker after its first 1,000 images, MiB": "worker",
        "the most later, MiB": "worker_at_most",
        "growth, %": "growth",
    }
    yield _by_module("memory", report, "memory", lines)


def _startup(report: Report) -> Iterator[Table]:
    lines = {"until all workers are ready, s": "", "a worker's resident memory then, MiB": "worker_memory"}
    yield _by_module("start-up", report, "startup", lines)


def _stages(report: Report) -> Iterator[Table]:
    busy = {f"{stage} busy, %": f"busy.{stage}" for stage in STAGES}
    fill = {"images a batch": "mean_batch", "batch fill, %": "batch_fill"}
    yield _by_module("stages: share of their threads' time at work", report, "stages", busy | fill)
    parts = {f"{part}, CPU ms an image": part for part in (*STAGES, "kafka_client")}
    sums = {"**own code: all but fetch, decode and module**": "own", "all, CPU ms an image": "total"}
    yield _by_module("profile of the worker processes", report, "profile", parts | sums)


def _by_module(title: str, report: Report, prefix: str, lines: Mapping[str, str]) -> Table:
    """Figures as rows, modules as columns."""
    modules = [
        module
        for module in MODULES
        if any(figure.name.startswith(f"{prefix}.{module}") for figure in report.figures)
    ]
    rows = [
        (label, *(number(report.value(f"{prefix}.{module}.{name}".rstrip("."))) for module in modules))
        for label, name in lines.items()
    ]
    shown: Sequence[tuple[str, ...]] = [row for row in rows if any(cell != NOTHING for cell in row[1:])]
    return Table(title, ("", *modules), tuple(shown))


_MAKERS = {
    "end_to_end": _end_to_end,
    "bounds": _bounds,
    "latency": _latency,
    "scaling": _scaling,
    "backlog": _backlog,
    "memory": _memory,
    "startup": _startup,
    "stages": _stages,
}
