"""A run: requests keep coming while one thing after another goes wrong; then the invariants are checked."""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from confluent_kafka import KafkaException

from infra.kafka import headers_of
from schemas.codec import decode_result
from schemas.dead_letters import DeadLetterReason
from schemas.messages import Result
from tests.chaos import faults, servers
from tests.chaos.bugs import BUG
from tests.chaos.cluster import PARTITIONS, Cluster, Watcher
from tests.chaos.faults import Fault
from tests.chaos.history import Answered, Buried, Expectation, History, Recovery, Row, Sent
from tests.chaos.invariants import Violation, check
from tests.chaos.proxies import Proxies, standing_before_the_servers
from tests.chaos.workload import Workload, write_module
from tests.service import Service, eventually, new_service

SESSION_TIMEOUT_S = 3.0
LONGEST_RECOVERY_S = 60.0
"""Beyond this a run has failed; the targets are in `docs/reliability.md`."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does; the same plan does the same, as far as the machine allows."""

    seed: int
    protocol: str = "consumer"
    rate: float = 50.0
    least_requests: int = 5000
    faults: int | None = None
    """How many; None for one of each that the weights name."""
    minutes: float | None = None
    """How long; None until the faults are done."""
    weights: str = "kills"
    """As `faults.weights` takes it."""
    settle_s: float = 180.0
    """How long after the last fault everything may take to be answered and stored."""
    bug: str = ""
    """One of `bugs.BUGS`, in the service that is run."""


class Report(msgspec.Struct, kw_only=True):
    """What became of a run."""

    plan: Plan
    seconds: float
    requests: int
    results: int
    dead_letters: int
    faults: dict[str, int]
    restarts: int
    dead_coordinators: int
    """See `Cluster`."""
    recoveries: list[Recovery]
    violations: list[Violation]

    def text(self) -> str:
        """For people."""
        lines = [
            f"seed {self.plan.seed}, {self.plan.protocol} protocol, {self.seconds:.0f} s",
            f"{self.requests} requests, {self.results} results, {self.dead_letters} dead letters",
            f"{sum(self.faults.values())} faults, {self.restarts} workers started again",
            f"{self.dead_coordinators} brokers started twice",
        ]
        by_fault: dict[str, list[Recovery]] = {}
        for recovery in self.recoveries:
            by_fault.setdefault(recovery.fault, []).append(recovery)
        for name, found in sorted(by_fault.items()):
            taken = sorted(one.seconds for one in found)
            late = sum(one.seconds > one.target_s for one in found)
            lines.append(
                f"  {name:<27} {len(found):3} x   median {taken[len(taken) // 2]:4.1f} s   "
                f"longest {taken[-1]:4.1f} s   target {found[0].target_s:2.0f} s, {late} later"
            )
        lines += [f"  VIOLATED {one.invariant}: {one.message}" for one in self.violations]
        lines.append("nothing lost, nothing doubled" if not self.violations else "FAILED")
        return "\n".join(lines)


def run(plan: Plan, say: Callable[[str], None] = lambda _: None) -> Report:
    """Carries a plan out on the stack that the environment leads to."""
    choice = random.Random(f"faults {plan.seed}")
    with (
        standing_before_the_servers() as proxies,
        tempfile.TemporaryDirectory() as name,
        new_service(Path(name), _environment(plan, proxies)) as service,
    ):
        if plan.bug:
            service.program = "tests.chaos.bugs"
        workload = Workload(service, plan.seed, plan.rate, plan.least_requests, PARTITIONS)
        started = time.monotonic()
        recoveries = []
        with (
            Cluster(service, write_module(Path(name)), workload, SESSION_TIMEOUT_S, proxies) as cluster,
            Watcher(service, PARTITIONS) as watcher,
        ):
            workload.start()
            eventually(lambda: all(watcher.rows_at.values()), 60)
            for fault in _faults(plan, choice, started):
                last = _inflict(plan, fault, cluster, watcher, choice, started)
                recoveries.append(last)
                say(f"{last.at_s:6.0f} s  {last.fault:<28} over for {last.seconds:.1f} s")
                time.sleep(choice.uniform(0, 1))
            workload.finish()
            say("settling")
            history = _settle(service, workload, cluster, watcher, plan.settle_s)
            history.recoveries = recoveries
            assert cluster.analyzer.stop() == 0
            assert cluster.sink.stop() == 0
            restarts = sum(log.read_text(errors="replace").count("it starts again") for log in cluster.logs)
            _complete(history, service, cluster)
    return Report(
        plan=plan,
        seconds=time.monotonic() - started,
        requests=len(history.sent),
        results=len(history.answered),
        dead_letters=len(history.buried),
        faults=dict(Counter(one.fault for one in recoveries)),
        restarts=restarts,
        dead_coordinators=cluster.dead_coordinators,
        recoveries=recoveries,
        violations=check(history),
    )


def _environment(plan: Plan, proxies: Proxies) -> dict[str, str]:
    return {
        "S3_ENDPOINT_URL": proxies.s3_url,
        "DATABASE_URL": proxies.database_url,
        "KAFKA_GROUP_PROTOCOL": plan.protocol,
        "KAFKA_SESSION_TIMEOUT_MS": str(int(SESSION_TIMEOUT_S * 1000)),
        BUG: plan.bug,
    }


def _faults(plan: Plan, choice: random.Random, started: float) -> Iterator[Fault]:
    weights = {
        fault: weight
        for fault, weight in faults.weights(plan.weights).items()
        if _possible(fault, len(servers.kafka_names()))
    }
    if not weights:
        raise ValueError(f"none of the faults {plan.weights} can be caused here")
    if plan.minutes is None and plan.faults is None:
        once = [fault for fault, count in weights.items() for _ in range(count)]
        yield from choice.sample(once, len(once))
        return
    # Each once, as far as they fit; then by their weights.
    number = 0
    for fault in choice.sample(list(weights), len(weights)) if plan.faults is not None else ():
        if _goes_on(plan, number, started):
            yield fault
            number += 1
    while _goes_on(plan, number, started):
        yield from choice.choices(list(weights), list(weights.values()))
        number += 1


def _possible(fault: Fault, brokers: int) -> bool:
    if fault is faults.fill_disk:
        return servers.has_a_disk_of_its_own("postgres")
    return brokers == 1 or fault not in faults.OF_KAFKAS_PROXY


def _goes_on(plan: Plan, number: int, started: float) -> bool:
    if plan.minutes is not None and time.monotonic() - started < plan.minutes * 60:
        return True
    return plan.faults is not None and number < plan.faults


def _inflict(
    plan: Plan, fault: Fault, cluster: Cluster, watcher: Watcher, choice: random.Random, started: float
) -> Recovery:
    poisonous = fault in faults.OF_AN_IMAGE
    guilty = watcher.guilty + poisonous
    fault(cluster, choice)
    over, over_at = time.monotonic(), time.time()
    progress: Mapping[int, float] = watcher.rows_at if fault in faults.OF_THE_SINK else watcher.results_at

    def goes_on() -> bool:
        # What such an image does begins only when it is read.
        return all(at > over_at for at in progress.values()) and watcher.guilty >= guilty

    while not goes_on() and time.monotonic() < over + LONGEST_RECOVERY_S:
        cluster.check_alive()
        time.sleep(0.02)
    seconds = time.monotonic() - over if goes_on() else float("inf")
    target_s = faults.target_s(fault, plan.protocol, cluster.session_timeout_s)
    return Recovery(fault.__name__, over - started, seconds, target_s, LONGEST_RECOVERY_S)


def _settle(
    service: Service, workload: Workload, cluster: Cluster, watcher: Watcher, patience_s: float
) -> History:
    """Waits until everything that was sent is answered and stored."""
    sent = []
    for message in service.records(service.kafka.images_topic):
        value = message.value() or b""
        request_id, expected = workload.expected[value]
        sent.append(Sent(request_id, int(message.partition() or 0), int(message.offset() or 0), expected))
    ends: dict[int, int] = {}
    for one in sent:
        ends[one.partition] = max(ends.get(one.partition, 0), one.offset + 1)

    def answered() -> bool:
        cluster.check_alive()
        try:
            committed = cluster.committed()
        except KafkaException:
            return False
        return all(committed.get(partition, 0) >= end for partition, end in ends.items())

    history = History(
        sent=sent, acknowledged=workload.acknowledged, answered=[], buried=[], rows=[], looks=watcher.looks
    )
    deadline = time.monotonic() + patience_s
    while not answered() and time.monotonic() < deadline:
        time.sleep(0.2)
    results = service.records(service.kafka.results_topic)
    for message in results:
        partition, offset = int(message.partition() or 0), int(message.offset() or 0)
        history.result_ends[partition] = max(history.result_ends.get(partition, 0), offset + 1)

    def stored() -> bool:
        look = watcher.look()
        found = look.next_offsets if look is not None else {}
        return all(found.get(partition, 0) >= end for partition, end in history.result_ends.items())

    while not stored() and time.monotonic() < deadline:
        time.sleep(0.2)
    return history


def _complete(history: History, service: Service, cluster: Cluster) -> None:
    # Only now: workers commit when they leave, too.
    history.committed = cluster.committed()
    for message in service.records(service.kafka.results_topic):
        result = decode_result(message.value() or b"")
        history.answered.append(
            Answered(
                int(message.partition() or 0),
                int(message.offset() or 0),
                result.request_id,
                result.source.partition,
                result.source.offset,
                _said(result),
                result.analyzed_at,
            )
        )
    for letter in service.dead_letters():
        reason = DeadLetterReason.from_headers(headers_of(letter))
        history.buried.append(Buried(reason.partition or 0, reason.offset or 0, reason.code or ""))
    rows = service.rows(
        "SELECT request_id, source_partition, source_offset, r.status, error_code, analyzed_at, "
        "(SELECT string_agg(label, ',' ORDER BY label) FROM detections AS d "
        " WHERE (d.request_timestamp, d.source_topic_id, d.source_partition, d.source_offset) "
        "     = (r.request_timestamp, r.source_topic_id, r.source_partition, r.source_offset)) "
        "FROM results AS r WHERE source_topic = %s"
    )
    history.rows += [
        Row(request_id, partition, offset, Expectation(status, (labels or "") if code is None else code), at)
        for request_id, partition, offset, status, code, at, labels in rows
    ]


def _said(result: Result) -> Expectation:
    if result.error is not None:
        return Expectation("failed", result.error.code)
    labels: Sequence[str] = sorted(label.label for one in result.detections for label in one.labels)
    return Expectation("ok", ",".join(labels))
