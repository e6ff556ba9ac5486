"""The local stack on real servers."""

from infra.local.stack import local_stack
from tests.stack import RunningStack


def test_everything_answers(stack: RunningStack) -> None:
    assert {state.state for state in local_stack().states()} == {"ready"}
