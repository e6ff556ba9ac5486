"""SQL text: numbered migrations, and files of named statements."""

import re
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def statements(name: str) -> dict[str, str]:
    """The statements of `<name>.sql` by the names that `-- name: …` lines give them."""
    text = files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {key: body.strip() for key, body in zip(parts[::2], parts[1::2], strict=True)}


def migrations() -> dict[str, str]:
    """The text of every migration by its name (`0001_results`), in the order to apply them."""
    folder = files(__package__).joinpath("migrations")
    found = {entry.name: entry for entry in folder.iterdir() if entry.name.endswith(".sql")}
    return {name.removesuffix(".sql"): found[name].read_text(encoding="utf-8") for name in sorted(found)}
