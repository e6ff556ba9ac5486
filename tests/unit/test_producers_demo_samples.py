"""The demo's sample images."""

from pathlib import Path

import pytest
from PIL import Image, ImageOps

from producers.demo import samples
from producers.demo.samples import make_samples
from producers.errors import InvalidArgument


def test_all_but_the_broken_one_are_whole_images(tmp_path: Path) -> None:
    made = make_samples(tmp_path / "samples")
    assert len({sample.name for sample in made}) == len(made) >= 8
    for sample in made:
        with Image.open(sample.path) as image:
            if sample.name == "broken.jpg":
                with pytest.raises(OSError, match="truncated"):
                    image.load()
            else:
                image.load()


def test_the_turned_one_is_upright_by_its_exif(tmp_path: Path) -> None:
    paths = {sample.name: sample.path for sample in make_samples(tmp_path)}
    with Image.open(paths["turned.jpg"]) as turned, Image.open(paths["astronaut.jpg"]) as upright:
        small = (16, 16)
        expected = upright.convert("L").resize(small).tobytes()

        def distance(image: Image.Image) -> int:
            given = image.convert("L").resize(small).tobytes()
            return sum(abs(a - b) for a, b in zip(given, expected, strict=True))

        assert distance(ImageOps.exif_transpose(turned)) * 5 < distance(turned)


def test_they_are_the_same_every_time(tmp_path: Path) -> None:
    first, second = make_samples(tmp_path / "a"), make_samples(tmp_path / "b")
    assert [s.path.read_bytes() for s in first] == [s.path.read_bytes() for s in second]


def test_without_scikit_image_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "find_spec", lambda _: None)
    with pytest.raises(InvalidArgument, match=r"requirements-dev\.txt"):
        make_samples(tmp_path)
