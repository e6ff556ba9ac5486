"""docs/benchmarks.md: its tables and plots come from the files of figures, its words from people."""


def write() -> None:
    """later"""
