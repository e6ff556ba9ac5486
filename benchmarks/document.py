"""docs/benchmarks.md: its tables and plots come from the files of figures, its words from people.

What stands between `<!-- begin NAME -->` and `<!-- end NAME -->` is written by `write`; the rest stays.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.figures import RESULTS, Report, read_all
from benchmarks.plots import plots
from benchmarks.tables import Table, tables

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_SECTION = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
NOT_YET = "Not measured yet.\n"


def write(results: Path = RESULTS, document: Path = DOCUMENT) -> None:
    """Brings tables and plots up to date."""
    reports = read_all(results)
    text = document.read_text(encoding="utf-8")
    document.write_text(render(text, reports), encoding="utf-8")
    folder = document.with_suffix("")
    folder.mkdir(exist_ok=True)
    for name, svg in plots(reports).items():
        (folder / name).write_text(svg, encoding="utf-8")


def render(text: str, reports: Mapping[str, Report]) -> str:
    """The document's text with its sections written anew."""

    def section(match: re.Match[str]) -> str:
        name = match.group(2)
        body = "".join(_section(name, reports[name])) if name in reports else NOT_YET
        return f"{match.group(1)}{body}{match.group(3)}"

    return _SECTION.sub(section, text)


def _section(name: str, report: Report) -> Iterator[str]:
    yield f"`{report.command}`, {report.date}, on {report.machine}.\n"
    if f"{name}.svg" in plots({name: report}):
        yield f"\n![{name.replace('_', ' ')}](benchmarks/{name}.svg)\n"
    for table in tables(name, report):
        yield f"\n**{table.title}**\n\n"
        yield from _markdown(table)
    if name == "stages":
        yield "\n" + "".join(f"- {module}: {limit}\n" for module, limit in report.notes.items())
    if report.versions:
        yield "\nVersions:\n\n"
    for contender, versions in report.versions.items():
        yield f"- {contender}: {versions}\n"


def _markdown(table: Table) -> Iterator[str]:
    yield _row(table.columns)
    yield _row(("---", *("---:" for _ in table.columns[1:])))
    for row in table.rows:
        yield _row(row)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
