"""`python -m tests.chaos`: a run of any length on a stack of its own, and its report."""

import argparse
import os
import random
import signal
import sys
from pathlib import Path

import msgspec

from infra.terminal import quiet_client
from tests.chaos.bugs import BUGS, LOST, UNFINISHED
from tests.chaos.faults import WEIGHTS, weights
from tests.chaos.run import Plan, run
from tests.stack import running_stack

BUG_FAULTS = 6
DISK = "1g"
"""PostgreSQL's; all of it is memory once it is full."""


def _seeded_bugs(names: str, seed: int) -> bool:
    """Runs the service with each of these bugs in it; returns whether the checker told of all of them."""
    told = True
    for name in BUGS if names == "all" else names.split(","):
        bug = BUGS[name]
        plan = Plan(
            seed=seed, bug=name, weights=bug.faults, faults=BUG_FAULTS, least_requests=500, settle_s=20
        )
        found = sorted({violation.invariant for violation in run(plan).violations})
        right = not bug.tell.isdisjoint(found) if bug.tell else not found
        if bug.tell == {LOST}:
            right = right and UNFINISHED not in found
        told = told and right
        print(f"{name:<24} {'as it should' if right else 'WRONG':<13} {', '.join(found) or '-'}", flush=True)
    return told


def main() -> None:
    """Runs, prints the report, and ends with 1 where an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, help="how long; without it, one of each fault of a short run"
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--protocol", choices=("classic", "consumer"), default="consumer")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--requests", type=int, default=5000, help="at least so many")
    parser.add_argument("--faults", default="all", help=f"{', '.join(WEIGHTS)}, or names with commas")
    parser.add_argument("--brokers", type=int, default=1, help="of the Kafka cluster")
    parser.add_argument("--report", type=Path, help="write the report to this file, as JSON")
    parser.add_argument(
        "--bugs", help="run the service with these seeded bugs instead, or with `all`; each must be found"
    )
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    plan = Plan(
        seed=given.seed,
        protocol=given.protocol,
        rate=given.rate,
        least_requests=given.requests,
        minutes=given.minutes,
        weights=given.faults,
    )
    try:
        weights(plan.weights)
    except ValueError as error:
        parser.error(f"--faults: {error}")
    print(f"seed {plan.seed}", file=sys.stderr)
    quiet_client()
    root = os.getuid() == 0 and sys.platform == "linux"
    if not root:
        print("skipped: fill_disk, since only root can have a small disk", file=sys.stderr)
    with running_stack(given.brokers, disk=DISK if root else ""):
        if given.bugs:
            sys.exit(not _seeded_bugs(given.bugs, plan.seed))
        report = run(plan, lambda text: print(text, file=sys.stderr, flush=True))
    print(report.text())
    if given.report is not None:
        given.report.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    sys.exit(bool(report.violations))


main()
