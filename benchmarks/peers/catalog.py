"""All peers, in the order of the table."""

from benchmarks.peers.base import Peer
from benchmarks.peers.celery.peer import CeleryPeer
from benchmarks.peers.kafka import KafkaPeer

PEERS: tuple[Peer, ...] = (
    CeleryPeer(),
    KafkaPeer("plain_loop", ("confluent-kafka",)),
    KafkaPeer("faust", ("faust-streaming",), arguments=("worker", "--without-web", "-l", "warn")),
    KafkaPeer("quix", ("quixstreams", "confluent-kafka"), own_environment=True),
    KafkaPeer("ray", ("ray",), own_environment=True, supervises=True),
)
