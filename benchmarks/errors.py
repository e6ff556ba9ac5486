"""What goes wrong with measurements."""


class BenchmarkError(Exception):
    """A measurement could not be made; the message says why, and what to do where something can be done."""


class StackUnfit(BenchmarkError):
    """The local stack is not as benchmarks need it."""


class RunFailed(BenchmarkError):
    """A contender brought no results for too long, or too few to measure."""


class ResultsWrong(BenchmarkError):
    """Results that are no answers: a contender that fails fast is not a fast one."""


class NotMeasured(BenchmarkError):
    """A figure is missing that another one builds on."""

    def __init__(self, figure: str) -> None:
        super().__init__(f"{figure} is not measured yet; `python -m benchmarks end-to-end` does it")
