"""docs/modules.md: its commands are run as they stand, and its tables name what the code has."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from modules.check_steps import CHECKS
from modules.contract import ModuleTraits
from modules.loading import shipped_names

PROJECT = Path(__file__).parent.parent.parent
TEXT = (PROJECT / "docs" / "modules.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
NEEDS_NETWORK = "uv pip install"
SLOW = "analysis modules check faces"
"""Run by the tests of that module."""


def sh(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs commands in `folder` with this environment's `analysis` first on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_every_command_runs_in_the_order_of_the_page(tmp_path: Path) -> None:
    written = [block for block in BLOCKS if NEEDS_NETWORK not in block]
    script = "\n".join(line for block in written for line in block.splitlines() if not line.startswith(SLOW))
    assert script.count("analysis modules") == 4

    done = sh(script, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "./bright_spots: keeps the contract" in done.stdout
    assert "warning" not in done.stdout


def test_the_requirements_it_names_are_in_the_project() -> None:
    named = re.findall(r"-r (modules/\S+)", TEXT)
    assert named
    assert all((PROJECT / file).is_file() for file in named)


@pytest.mark.parametrize("field", ModuleTraits.__struct_fields__)
def test_every_limit_is_listed_with_its_default(field: str) -> None:
    default = getattr(ModuleTraits(), field)
    written = "none" if default is None else f"{default:g}"
    assert f"| `{field}` | {written} |" in TEXT


def test_every_shipped_module_and_every_check_is_listed() -> None:
    names = [f"| `{name}` |" for name in shipped_names()]
    checks = [f"| {check.__name__.replace('_', ' ')} |" for check in CHECKS]
    assert [row for row in [*names, *checks] if row not in TEXT] == []
