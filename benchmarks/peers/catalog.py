"""All peers, in the order of the table."""

from benchmarks.peers.base import Peer

PEERS: tuple[Peer, ...] = ()
