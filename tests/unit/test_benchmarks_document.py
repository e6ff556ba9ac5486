"""The document says what the files of figures say."""

from pathlib import Path

import pytest

from benchmarks import document, figures
from benchmarks.figures import Report, Sheet
from benchmarks.plots import plots
from benchmarks.tables import number, tables


def test_the_document_agrees_with_the_files() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert document.render(text, figures.read_all()) == text, "run `python -m benchmarks document`"


def test_the_plots_agree_with_the_files() -> None:
    folder = document.DOCUMENT.with_suffix("")
    drawn = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.svg")}
    assert drawn == plots(figures.read_all()), "run `python -m benchmarks document`"


def test_the_document_has_a_section_for_every_file() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    for name in figures.read_all():
        assert f"<!-- begin {name} -->" in text


def a_report() -> Report:
    sheet = Sheet()
    for rate in (300.0, 320.0, 310.0):
        sheet.add("end_to_end.dummy.ours", rate, "images/s")
    sheet.add("end_to_end.dummy.faust", 100.0, "images/s")
    sheet.add_ratio("end_to_end.dummy.ratio.faust", "end_to_end.dummy.ours", "end_to_end.dummy.faust")
    sheet.notes["ray"] = "there is no wheel of it\nfor this Python"
    return sheet.report("a machine", "a command")


def test_a_contender_that_could_not_run_is_in_the_table_with_the_reason() -> None:
    (table,) = tables("end_to_end", a_report())
    shown = [table.columns.index(title) for title in ("images/s", "least to most", "this project is")]
    rows = {row[0]: tuple(row[column] for column in shown) for row in table.rows}
    assert rows == {
        "**this project**": ("310", "300 to 320", "-"),
        "Faust agent": ("100", "one round", "3.10x"),
        "Ray": ("-", "there is no wheel of it", "-"),
    }


def test_only_sections_are_written(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("Words.\n<!-- begin end_to_end -->\nold\n<!-- end end_to_end -->\nMore words.\n")
    figures.write("end_to_end", a_report(), tmp_path)
    document.write(tmp_path, page)
    text = page.read_text()
    assert text.startswith("Words.\n<!-- begin end_to_end -->\n`a command`")
    assert text.endswith("<!-- end end_to_end -->\nMore words.\n")
    assert "| Faust agent | 100 |" in text
    assert "old" not in text
    svg = (tmp_path / "benchmarks" / "end_to_end.svg").read_text()
    assert svg.startswith("<svg")
    assert svg.count("<rect") == 3


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.123, "0.12"), (12.34, "12.3"), (1234.5, "1,234"), (0.0, "0.00")]
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text
