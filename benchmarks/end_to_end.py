"""Images a second from a preloaded topic to the last committed result: ours and the alternatives.

The rounds are interleaved (ours, celery, …, ours, celery, …), so that whatever else happens on the machine
meets all alike.
"""

from collections.abc import Mapping, Sequence

from benchmarks import bounds, pass_through, runs
from benchmarks.bounds import Bounds
from benchmarks.errors import ResultsWrong, RunFailed
from benchmarks.figures import Sheet
from benchmarks.ours import Ours
from benchmarks.peers.base import Peer, PeerFailed
from benchmarks.peers.catalog import PEERS
from benchmarks.plan import MODULES, Plan
from benchmarks.progress import say
from benchmarks.runs import Run
from benchmarks.usage import Servers
from benchmarks.workload import Workplace

PREFIX = "end_to_end"
LEAST_IMAGES = 120
FIRST_GUESS: Mapping[str, float] = {"ours": 0.8, "ours_rows": 0.7}
"""Share of the bound that a contender's first number of images assumes; later ones follow from its rate."""
PEERS_GUESS = 0.15


def measure(place: Workplace, servers: Servers, plan: Plan) -> tuple[Sheet, Sheet]:
    """Runs all rounds; returns the figures of the comparison, and those of the bounds.

    Each round measures its own bounds: a machine whose speed drifts is compared with itself.
    """
    sheet, limits = Sheet(), Sheet()
    peers = _available(plan, sheet)
    for number in range(plan.rounds):
        kafka_ms = pass_through.kafka_ms(place, servers)
        for module in plan.modules:
            say(f"round {number + 1} of {plan.rounds}, {module}: bounds")
            bound = bounds.measure(place, servers, MODULES[module], plan.workers, kafka_ms, plan.images)
            bounds.record(limits, module, bound)
            ours = [Ours(), Ours(with_rows=True)] if module in plan.rows else [Ours()]
            for contender in (*ours, *peers):
                say(f"round {number + 1} of {plan.rounds}, {module}: {contender.name}")
                run = _round(place, servers, plan, contender, module, bound, sheet)
                if run is not None and contender is ours[0]:
                    add_efficiency(sheet, module, bound, run.rate)
    for module in plan.modules:
        compare(sheet, module, [peer.name for peer in PEERS])
    return sheet, limits


def _available(plan: Plan, sheet: Sheet) -> list[Peer]:
    """The peers that can run here; for the others, notes say why not."""
    peers = []
    sheet.versions["ours"] = Ours().version()
    for peer in PEERS:
        if peer.name not in plan.peers:
            continue
        say(f"preparing {peer.name}")
        reason = _prepare(peer)
        if reason:
            sheet.notes[peer.name] = reason
        else:
            sheet.versions[peer.name] = peer.version()
            peers.append(peer)
    return peers


def _prepare(peer: Peer) -> str:
    """Makes a peer ready; why it cannot be, or nothing."""
    reason = peer.unavailable()
    if not reason:
        try:
            peer.prepare()
        except PeerFailed as error:
            return str(error)
    return reason


def _round(
    place: Workplace,
    servers: Servers,
    plan: Plan,
    contender: Peer,
    module: str,
    bound: Bounds,
    sheet: Sheet,
) -> Run | None:
    name = f"{PREFIX}.{module}.{contender.name}"
    before = sheet.median(name)
    guess = FIRST_GUESS.get(contender.name, PEERS_GUESS) * bound.rate
    count = plan.images or max(LEAST_IMAGES, round((before or guess) * plan.seconds))
    try:
        run = runs.measure(place, servers, contender, MODULES[module], count, plan.workers)
    except (PeerFailed, ResultsWrong, RunFailed) as error:
        sheet.notes[f"{module}.{contender.name}"] = str(error)
        say(f"  {contender.name} failed: {error}")
        return None
    record(sheet, name, run)
    say(f"  {run.images} images in {run.seconds:.1f} s: {run.rate:.1f} images/s")
    return run


def record(sheet: Sheet, name: str, run: Run) -> None:
    """Writes one run down as figures."""
    sheet.add(name, run.rate, "images/s")
    sheet.add(f"{name}.steady", run.steady_rate, "images/s")
    sheet.add(f"{name}.cpu_per_1000_images", run.cpu_ms, "s")
    sheet.add(f"{name}.servers_cpu_per_1000_images", run.servers_cpu_ms, "s")
    sheet.add(f"{name}.cores_used", run.cores_used, "cores")
    sheet.add(f"{name}.first_result", run.first_result_s, "s")


def compare(sheet: Sheet, module: str, peers: Sequence[str]) -> None:
    """Adds the ratios of ours to each peer: both to results, or both to rows where the peer stores rows."""
    prefix = f"{PREFIX}.{module}"
    for peer in peers:
        sheet.add_ratio(f"{prefix}.ratio.{peer}", f"{prefix}.ours", f"{prefix}.{peer}")
    sheet.add_ratio(f"{prefix}.rows_ratio.celery", f"{prefix}.ours_rows", f"{prefix}.celery")


def add_efficiency(sheet: Sheet, module: str, bound: Bounds, rate: float) -> None:
    """Adds the shares that a round of ours reached of its bound, and of what the modules alone can do."""
    sheet.add(f"{PREFIX}.{module}.efficiency", bound.efficiency(rate), "of the bound")
    sheet.add(f"{PREFIX}.{module}.of_module_alone", rate / bound.module_rate, "of the module alone")
