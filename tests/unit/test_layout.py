"""The folders are the architecture: what may import what is in pyproject.toml."""

import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def lint_imports(cwd: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_every_import_is_in_the_layout() -> None:
    checked = lint_imports(PROJECT, "--no-cache")
    assert checked.returncode == 0, checked.stdout
    assert "0 broken" in checked.stdout


def test_an_import_against_the_layout_is_found(tmp_path: Path) -> None:
    for package in ("schemas", "infra"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "schemas" / "wrong.py").write_text("import infra\n")
    rules = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    first = rules[rules.index("[[tool.importlinter.contracts]]") :].split("\n\n")[0]
    first = re.sub(r"forbidden_modules = .*", 'forbidden_modules = ["infra"]', first)
    header = '[tool.importlinter]\nroot_packages = ["schemas", "infra"]\n\n'
    (tmp_path / "pyproject.toml").write_text(header + first)
    checked = lint_imports(tmp_path, "--no-cache")
    assert checked.returncode == 1
    assert "1 broken" in checked.stdout
