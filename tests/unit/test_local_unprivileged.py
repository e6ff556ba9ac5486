import os
import stat
from pathlib import Path

import pytest

from infra.local.process import User
from infra.local.unprivileged import (
    give,
    make_private_folder,
    passable,
    reachable_folder,
    replacement_for_root,
)
from infra.settings import SettingError
from tests.stack import temporary_folder

SOMEBODY = User(uid=12345, gid=12345)


def test_a_folder_is_passable_only_if_all_above_it_are() -> None:
    with temporary_folder() as root:
        inner = root / "closed" / "inner"
        inner.mkdir(parents=True)
        assert passable(inner)
        inner.parent.chmod(0o700)
        assert not passable(inner)


def test_what_another_user_cannot_reach_goes_to_a_place_of_its_own() -> None:
    with temporary_folder() as root:
        assert reachable_folder(root / "postgres", SOMEBODY) == root / "postgres"
        root.chmod(0o700)
        elsewhere = reachable_folder(root / "postgres", SOMEBODY)
        assert elsewhere.parent == Path("/var/lib")
        assert elsewhere != reachable_folder(root / "another", SOMEBODY)
        assert reachable_folder(root / "postgres", None) == root / "postgres"


def test_a_private_folder_is_private(tmp_path: Path) -> None:
    for _ in range(2):
        make_private_folder(tmp_path / "new", None)
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_link_in_the_place_of_a_private_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "new").symlink_to(tmp_path / "theirs")
    with pytest.raises(SettingError, match="remove it"):
        make_private_folder(tmp_path / "new", None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_another_owner_is_refused(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    os.chown(tmp_path / "new", 54321, 54321)
    with pytest.raises(SettingError, match="12345"):
        make_private_folder(tmp_path / "new", SOMEBODY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_giving_a_link_leaves_its_target_alone(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    give(tmp_path / "link", SOMEBODY)
    assert (tmp_path / "target").stat().st_uid == 0
    assert (tmp_path / "link").lstat().st_uid == SOMEBODY.uid


def test_only_root_needs_somebody_else() -> None:
    found = replacement_for_root()
    assert (found is None) == (os.geteuid() != 0)
    assert found is None or found.uid != 0
