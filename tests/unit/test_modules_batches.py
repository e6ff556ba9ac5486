"""Mixed batches are answered kind by kind, each answer at its item's place."""

from modules.batches import answer_by_kind


def test_each_answer_comes_back_to_its_place() -> None:
    batches: list[list[str]] = []

    def answer(items: list[str]) -> list[str]:
        batches.append(items)
        return [item.upper() for item in items]

    assert answer_by_kind(["a1", "b1", "a2", "c1"], lambda item: item[0], answer) == ["A1", "B1", "A2", "C1"]
    assert batches == [["a1", "a2"], ["b1"], ["c1"]]


def test_nothing_is_answered_with_nothing() -> None:
    assert answer_by_kind([], len, lambda items: [1]) == []
