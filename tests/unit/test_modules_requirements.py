"""What a module's folder needs, and how it is said."""

from pathlib import Path

import pytest

from modules.requirements import explained, install_command, missing

INSTALLED = "msgspec"


@pytest.mark.parametrize(
    ("line", "is_missing"),
    [
        (INSTALLED, False),
        (f"{INSTALLED}>=0.1", False),
        (f"{INSTALLED}==0.0.1", True),
        ("a-package-that-nobody-has", True),
        ("a-package-that-nobody-has[extra]==1.0 ; python_version > '3'", True),
        ("# a-package-that-nobody-has", False),
        ("--index-url somewhere", False),
    ],
)
def test_missing(line: str, is_missing: bool, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"\n{line}\n")
    assert missing(tmp_path) == ([line] if is_missing else [])


def test_a_folder_without_requirements(tmp_path: Path) -> None:
    assert missing(tmp_path) == []
    assert install_command(tmp_path) is None
    assert (
        explained(ModuleNotFoundError("No module named 'x'"), tmp_path)
        == "ModuleNotFoundError: No module named 'x'"
    )


def test_the_command_that_installs(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("numpy\n")
    assert install_command(tmp_path) == f"uv pip install -r {file}"
    file.write_text("# Install with --no-deps.\nnumpy\n")
    assert install_command(tmp_path) == f"uv pip install --no-deps -r {file}"
    assert "`uv pip install --no-deps" in explained(ModuleNotFoundError("x"), tmp_path)
    assert "uv pip" not in explained(OSError("x"), tmp_path)
