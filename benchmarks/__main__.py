"""`python -m benchmarks …`: measures one figure, or all of them, and writes the document."""

from benchmarks.commands import app

if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
