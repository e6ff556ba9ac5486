"""What the owner of a partition leaves for the next one, in the metadata of the committed offset.

Nothing else outlives a machine and reaches whoever reads the partition next: the offset's metadata is
committed in the same transaction as the offset and the results below it.
"""

import logging
from collections.abc import Iterable

import msgspec

from consumers.analyzer.deaths import Death, Deaths, Image
from schemas.errors import ErrorCode

logger = logging.getLogger(__name__)

MAX_LOSSES = 3
"""Owners in a row that may vanish, for reasons nobody knows, before what they had in flight is suspected."""
MAX_DEATHS = 5
"""Workers that may vanish so with one image, mostly with it alone, before it is blamed."""
MAX_SUSPECTS = 80
"""A broker takes 4096 bytes of metadata by default; a suspect needs 45 at most."""

Place = tuple[int, int]
"""An offset and the index of an image within that record."""


class Suspect(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """An image that was being worked on when a worker died."""

    offset: int
    index: int
    deaths: int = 1
    """Workers that died with it."""
    code: ErrorCode | None = None
    """Set once it is guilty: how it is answered."""

    @property
    def place(self) -> Place:
        """Where it is in its partition."""
        return self.offset, self.index


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """A worker's word about a partition, valid from the committed offset on."""

    owner: str
    closed: bool = False
    """Whether the owner gave the partition up in order, with nothing under way."""
    losses: int = 0
    """Owners before this one that vanished at this very offset."""
    trial: Place | None = None
    """The image that is alone in the worker now."""
    suspects: tuple[Suspect, ...] = ()
    careful_until: int = 0
    """Every image below this offset is tried alone."""

    def text(self) -> str:
        """As metadata; empty where there is nothing to say."""
        if self.closed and not (self.suspects or self.careful_until):
            return ""
        return msgspec.json.encode(self).decode()


def read_claim(metadata: str | None) -> Claim | None:
    """The claim in an offset's metadata; None where it holds something else, or nothing."""
    try:
        return msgspec.json.decode(metadata or "", type=Claim)
    except msgspec.DecodeError:
        return None


class Standing:
    """What is known of a partition's images from those who had it before."""

    def __init__(self, suspects: Iterable[Suspect] = (), losses: int = 0, careful_until: int = 0) -> None:
        self.losses = losses
        self._suspects = {suspect.place: suspect for suspect in suspects}
        self._careful_until = careful_until

    @property
    def suspicious(self) -> bool:
        """Whether anything has to be tried alone."""
        return bool(self._suspects or self._careful_until)

    def suspect(self, place: Place) -> Suspect | None:
        """What an image is suspected of; None where it is like any other."""
        known = self._suspects.get(place)
        if known is None and place[0] < self._careful_until:
            return Suspect(*place)
        return known

    def claim(self, owner: str, offset: int, *, progress: bool, trial: Place | None, closed: bool) -> Claim:
        """The claim to commit.

        Args:
            offset: with which it is committed; what is below no longer matters.
            progress: whether that offset is beyond the one that was committed before.
        """
        self._suspects = {place: one for place, one in self._suspects.items() if place[0] >= offset}
        if progress:
            self.losses = 0
        if self._careful_until <= offset:
            self._careful_until = 0
        return Claim(
            owner=owner,
            closed=closed,
            losses=self.losses,
            trial=trial,
            suspects=tuple(sorted(self._suspects.values(), key=lambda one: one.place)[:MAX_SUSPECTS]),
            careful_until=self._careful_until,
        )


def judge(
    claim: Claim | None, death: Death | None, partition: int, offset: int, window_records: int
) -> Standing:
    """What follows for the next owner.

    - Given up in order: what was suspected still is.
    - Crashed or hung with one image alone in it: that image is guilty.
    - Crashed or hung otherwise: every image that was being worked on is a suspect, to be tried alone.
    - Vanished, for reasons outside (killed, power loss) or unknown: nobody is blamed, unless it happens
      again and again at the same offset.

    Args:
        claim: of the former owner, which is gone.
        death: how that died, where this machine knows.
        offset: the committed one.
        window_records: how many records from there on an owner may have had in flight.
    """
    if claim is None:
        return Standing()
    suspects = {suspect.place: suspect for suspect in claim.suspects}
    if claim.closed:
        return Standing(suspects.values(), claim.losses, claim.careful_until)
    losses, careful_until = claim.losses, claim.careful_until
    blamed = death is not None and death.code is not None and bool(death.images)
    if claim.trial is not None and (death is None or Image(partition, *claim.trial) in death.images):
        suspect = suspects.get(claim.trial, Suspect(*claim.trial))
        suspects[claim.trial] = _after_trial(suspect, death)
    elif claim.trial is not None and not blamed:
        # The image was still being fetched, say, or its trial was over and not committed yet.
        suspects.setdefault(claim.trial, Suspect(*claim.trial))
        losses += 1
    elif death is not None and blamed:
        places = [(image.offset, image.index) for image in death.images if image.partition == partition]
        suspects.update({place: Suspect(*place) for place in places if place not in suspects})
    else:
        losses += 1
    if losses >= MAX_LOSSES:
        careful_until = max(careful_until, offset + window_records)
    return Standing(suspects.values(), losses, careful_until)


def _after_trial(suspect: Suspect, death: Death | None) -> Suspect:
    deaths = suspect.deaths + 1
    if death is not None and death.code is not None:
        guilty = death.code if len(death.images) == 1 else None
    else:
        guilty = ErrorCode.MODULE_CRASHED if deaths >= MAX_DEATHS else None
    return Suspect(*suspect.place, deaths, guilty)


class Ownership:
    """This worker's name in claims, and what it makes of those of others."""

    def __init__(self, owner: str, deaths: Deaths, window_records: int) -> None:
        self.owner = owner
        self._deaths = deaths
        self._window_records = window_records

    def inherit(self, metadata: str | None, partition: int, offset: int) -> Standing:
        """What a partition's former owner leaves to this one, see `judge`."""
        claim = read_claim(metadata)
        death = None
        if claim is not None:
            if claim.owner == self.owner:
                # It was this process that let go of the partition, and lives.
                claim = msgspec.structs.replace(claim, closed=True)
            else:
                death = self._deaths.of(claim.owner)
        standing = judge(claim, death, partition, offset, self._window_records)
        if standing.suspicious:
            logger.warning(
                "partition %d: images with which a worker died (%s) are tried alone",
                partition,
                death.reason if death is not None else "elsewhere",
            )
        return standing
