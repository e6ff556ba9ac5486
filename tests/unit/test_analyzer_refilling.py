"""A queue that is filled in bursts."""

import threading

from consumers.analyzer.refilling import BURST, RefillQueue

PATIENCE_S = 10.0


def test_items_come_out_in_order() -> None:
    queue: RefillQueue[int] = RefillQueue(low=2)
    for number in range(5):
        queue.put(number)
    assert [queue.get() for _ in range(5)] == [0, 1, 2, 3, 4]


def test_a_full_queue_lets_nothing_in_until_few_are_left() -> None:
    queue: RefillQueue[int] = RefillQueue(low=2)
    for number in range(2 + BURST):
        queue.put(number)
    came = threading.Event()

    def put() -> None:
        queue.put(99)
        came.set()

    threading.Thread(target=put, daemon=True).start()
    for _ in range(BURST - 1):
        queue.get()
    assert not came.wait(0.1), "three are left"
    queue.get()
    assert came.wait(PATIENCE_S), "two are left"


def test_all_that_wait_are_let_in_together() -> None:
    queue: RefillQueue[int] = RefillQueue(low=0)
    for number in range(BURST):
        queue.put(number)
    waiting = [threading.Thread(target=queue.put, args=(number,), daemon=True) for number in range(5)]
    for thread in waiting:
        thread.start()
    for _ in range(BURST):
        queue.get()
    for thread in waiting:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in waiting)


def test_a_higher_low_mark_lets_in_at_once() -> None:
    queue: RefillQueue[int] = RefillQueue(low=0)
    for number in range(BURST):
        queue.put(number)
    thread = threading.Thread(target=queue.put, args=(1,), daemon=True)
    thread.start()
    queue.set_low(BURST)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_an_empty_queue_is_waited_for() -> None:
    queue: RefillQueue[str] = RefillQueue(low=1)
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.append(queue.get()), daemon=True)
    thread.start()
    queue.put("late")
    thread.join(PATIENCE_S)
    assert got == ["late"]
