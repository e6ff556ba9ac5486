"""Twenty kills while five thousand requests are answered: nothing is lost, nothing is doubled."""

import pytest

from tests.chaos.run import Plan, run
from tests.stack import RunningStack


@pytest.mark.timeout(420)
def test_twenty_kills_cost_nothing(stack: RunningStack) -> None:
    report = run(Plan(seed=1), print)
    print(report.text())
    assert report.requests >= 5000
    assert sum(count for name, count in report.faults.items() if name.startswith("kill_")) == 20
    assert report.violations == []
