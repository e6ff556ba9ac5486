"""Who is suspected, tried and blamed when workers die, from one owner of a partition to the next."""

from pathlib import Path

import pytest

from consumers.analyzer.claims import (
    MAX_DEATHS,
    MAX_LOSSES,
    MAX_SUSPECTS,
    Claim,
    Ownership,
    Standing,
    Suspect,
    judge,
    read_claim,
)
from consumers.analyzer.deaths import Death, Deaths, Image
from schemas.errors import ErrorCode

PARTITION = 3
WINDOW = 50
CRASH = ErrorCode.MODULE_CRASHED
HANG = ErrorCode.MODULE_TIMEOUT


def death(code: ErrorCode | None, *places: tuple[int, int], partition: int = PARTITION) -> Death:
    return Death(code, "so it was", tuple(Image(partition, *place) for place in places))


def next_owner(claim: Claim | None, how: Death | None, offset: int = 10) -> Standing:
    """What the next owner makes of a claim, having read it from the offset's metadata."""
    return judge(read_claim(claim.text() if claim else ""), how, PARTITION, offset, WINDOW)


def claimed(standing: Standing, trial: tuple[int, int] | None = None, offset: int = 10) -> Claim:
    return standing.claim("next", offset, progress=False, trial=trial, closed=False)


def test_nobody_is_suspected_after_an_owner_that_left_in_order() -> None:
    closed = Standing().claim("w", 10, progress=True, trial=None, closed=True)
    assert closed.text() == ""
    assert not next_owner(closed, None).suspicious


def test_a_crash_makes_suspects_of_what_was_at_work_in_this_partition_only() -> None:
    how = Death(CRASH, "signal 11", (Image(PARTITION, 12, 0), Image(PARTITION, 14, 1), Image(9, 13, 0)))
    standing = next_owner(Claim("w"), how)
    assert standing.suspect((12, 0)) == Suspect(12, 0)
    assert standing.suspect((14, 1)) == Suspect(14, 1)
    assert standing.suspect((14, 0)) is None
    assert standing.suspect((13, 0)) is None


@pytest.mark.parametrize("code", [CRASH, HANG])
def test_the_image_that_was_alone_is_guilty_and_the_other_suspects_are_not(code: ErrorCode) -> None:
    first = next_owner(Claim("w"), death(CRASH, (12, 0), (13, 0)))
    second = next_owner(claimed(first, trial=(12, 0)), death(code, (12, 0)))
    assert second.suspect((12, 0)) == Suspect(12, 0, deaths=2, code=code)
    assert second.suspect((13, 0)) == Suspect(13, 0)


def test_guilt_is_remembered_by_every_owner_to_come() -> None:
    standing = next_owner(Claim("w", trial=(12, 0)), death(HANG, (12, 0)))
    for _ in range(4):
        standing = next_owner(claimed(standing), None)
    assert standing.suspect((12, 0)) == Suspect(12, 0, deaths=2, code=HANG)


def test_an_image_that_was_not_alone_is_tried_again() -> None:
    standing = next_owner(Claim("w", trial=(12, 0)), death(CRASH, (12, 0), (400, 0)))
    assert standing.suspect((12, 0)) == Suspect(12, 0, deaths=2)


def test_a_worker_that_is_killed_from_outside_blames_nobody() -> None:
    standing = next_owner(Claim("w"), death(None, (12, 0)))
    assert not standing.suspicious
    assert claimed(standing).losses == 1


def test_a_trial_that_ends_before_the_image_was_touched_does_not_count() -> None:
    standing = next_owner(Claim("w", trial=(12, 0), suspects=(Suspect(12, 0),)), death(None))
    assert standing.suspect((12, 0)) == Suspect(12, 0)
    assert standing.losses == 1


def test_a_crash_after_a_trial_that_ended_makes_suspects_of_what_was_at_work_then() -> None:
    claim = Claim("w", trial=(12, 0), suspects=(Suspect(12, 0),))
    standing = next_owner(claim, death(CRASH, (20, 0), (21, 0)))
    assert standing.suspect((20, 0)) == Suspect(20, 0)
    assert standing.suspect((12, 0)) == Suspect(12, 0)


def test_crashes_with_nothing_in_hand_are_counted_as_losses() -> None:
    standing = Standing()
    for _ in range(MAX_LOSSES):
        assert not standing.suspicious
        standing = next_owner(claimed(standing), death(CRASH))
    assert standing.suspect((10, 0)) == Suspect(10, 0)


def test_whoever_dies_unseen_again_and_again_with_one_image_is_believed_in_the_end() -> None:
    standing = next_owner(Claim("w"), death(CRASH, (12, 0)))
    died = 1
    while (suspect := standing.suspect((12, 0))) is not None and suspect.code is None:
        standing = next_owner(claimed(standing, trial=(12, 0)), None)
        died += 1
    assert standing.suspect((12, 0)) == Suspect(12, 0, MAX_DEATHS, CRASH)
    assert died == MAX_DEATHS


def test_owners_that_vanish_at_one_offset_make_everything_in_flight_suspect() -> None:
    standing = Standing()
    for _ in range(MAX_LOSSES):
        assert not standing.suspicious
        standing = next_owner(claimed(standing), None)
    assert standing.suspect((10, 0)) == Suspect(10, 0)
    assert standing.suspect((10 + WINDOW - 1, 7)) == Suspect(10 + WINDOW - 1, 7)
    assert standing.suspect((10 + WINDOW, 0)) is None


def test_progress_ends_the_count_of_losses() -> None:
    standing = Standing()
    for _ in range(MAX_LOSSES - 1):
        standing = next_owner(claimed(standing), None)
    standing.claim("w", 11, progress=True, trial=None, closed=False)
    assert not next_owner(claimed(standing, offset=11), None, offset=11).suspicious


def test_what_is_committed_is_no_longer_suspect() -> None:
    standing = Standing([Suspect(12, 0), Suspect(15, 0)])
    claim = standing.claim("w", 13, progress=True, trial=None, closed=False)
    assert claim.suspects == (Suspect(15, 0),)
    assert standing.claim("w", 16, progress=True, trial=None, closed=True).text() == ""


def test_suspects_outlive_an_orderly_handover() -> None:
    closed = Standing([Suspect(12, 0)]).claim("w", 10, progress=False, trial=None, closed=True)
    assert next_owner(closed, None).suspect((12, 0)) == Suspect(12, 0)


def test_a_claim_fits_the_metadata_of_an_offset() -> None:
    far = 2**62
    suspects = [Suspect(far + number, 999, MAX_DEATHS, HANG) for number in range(2 * MAX_SUSPECTS)]
    standing = Standing(suspects, losses=2, careful_until=far)
    claim = standing.claim(
        "host.example.org-1000-0.12.01234567", far, progress=False, trial=(far, 9), closed=False
    )
    assert len(claim.text()) <= 4096
    assert read_claim(claim.text()) == claim


@pytest.mark.parametrize("metadata", [None, "", "of somebody else", "{}", '{"owner": 1}', "[1]"])
def test_metadata_of_others_says_nothing(metadata: str | None) -> None:
    assert read_claim(metadata) is None


def test_an_owner_does_not_take_its_own_claim_for_that_of_a_dead_one(tmp_path: Path) -> None:
    ownership = Ownership("me", Deaths(tmp_path), WINDOW)
    for _ in range(MAX_LOSSES + 1):
        standing = ownership.inherit(Claim("me", suspects=(Suspect(11, 0),)).text(), PARTITION, 10)
        assert standing.losses == 0
    assert standing.suspect((11, 0)) == Suspect(11, 0)


def test_an_owner_asks_how_its_predecessor_died(tmp_path: Path) -> None:
    deaths = Deaths(tmp_path)
    (tmp_path / "former.death.json").write_bytes(
        b'{"code":"module_crashed","reason":"signal 11","images":[[3,12,0]]}'
    )
    standing = Ownership("me", deaths, WINDOW).inherit(Claim("former").text(), PARTITION, 10)
    assert standing.suspect((12, 0)) == Suspect(12, 0)
