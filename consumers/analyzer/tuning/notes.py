"""What a sweep has to say while it runs, and at its end."""

from collections.abc import Callable

Say = Callable[[str], None]


class Notes:
    """Passes lines of progress on, and keeps the remarks among them for the report."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.remarks: list[str] = []

    def remark(self, text: str) -> None:
        """Says it now, and in the report again: something was not measured, or not as it should be."""
        self.remarks.append(text)
        self.say(text)


def counted(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def per_second(images: float) -> str:
    """Images a second with about three digits."""
    return f"{images:,.{2 if images < 10 else 1 if images < 100 else 0}f} images/s"
