"""What `analysis upload` is asked to send: files, folders, and references, listed before anything is sent."""

import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

import msgspec

from producers.errors import InputNotFound, InvalidArgument
from schemas.messages import ImageReference
from schemas.references import is_uri, parse_uri

IMAGE_PATTERNS = tuple(
    f"*.{extension}"
    for extension in ("avif", "bmp", "gif", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp")
)
"""What is taken from a folder where no pattern is given; names are compared without case."""


class ImageSource(msgspec.Struct, frozen=True):
    """One image to send: a file, or an object that is in the store already.

    `name` is as the user wrote it; `identity` is the same from whatever folder the command runs. Both are
    valid text, whatever bytes the file's name is made of.
    """

    name: str
    origin: Path | ImageReference

    @property
    def identity(self) -> str:
        """The file's absolute path, or the object's address."""
        if isinstance(self.origin, Path):
            return as_text(str(self.origin.absolute()))
        return f"s3://{self.origin.bucket}/{self.origin.key}"

    def fingerprint(self) -> str:
        """Changes when the file is written to; the same for ever for an object.

        Raises:
            InputNotFound: the file is not there any more.
        """
        if not isinstance(self.origin, Path):
            return ""
        try:
            stat = self.origin.stat()
        except OSError as error:
            raise InputNotFound(self.name, error.strerror or str(error)) from None
        return f"{stat.st_size}:{stat.st_mtime_ns}"


class Selection(msgspec.Struct, frozen=True):
    """Which files of a folder are taken: those that fit a pattern of `include` and none of `exclude`.

    A pattern is compared with the file's name, and with its path below the folder.
    """

    recursive: bool = False
    include: tuple[str, ...] = IMAGE_PATTERNS
    exclude: tuple[str, ...] = ()

    def takes(self, relative: Path) -> bool:
        """Whether a file of a folder is taken."""
        names = (relative.name.lower(), relative.as_posix().lower())

        def fits(patterns: Iterable[str]) -> bool:
            return any(fnmatch(name, pattern.lower()) for pattern in patterns for name in names)

        return fits(self.include) and not fits(self.exclude)


def expand(arguments: Sequence[str], selection: Selection) -> list[ImageSource]:
    """Every image that the arguments name, each once, folders in sorted order.

    Raises:
        InputNotFound: an argument names nothing that is there.
        InvalidArgument: an `s3://` reference lacks its bucket or its key.
    """
    found = (source for argument in arguments for source in _expand_one(argument, selection))
    return list({source.identity: source for source in found}.values())


def read_reference(text: str) -> ImageReference | None:
    """The object that `s3://bucket/key` names; None for other text, which is a file's path.

    Raises:
        InvalidArgument: the bucket or the key is missing, or is not UTF-8.
    """
    if not is_uri(text):
        return None
    reference = parse_uri(text)
    if not reference.bucket or not reference.key:
        raise InvalidArgument(f"{text!r} does not name a bucket and a key")
    if as_text(text) != text:
        raise InvalidArgument(f"{text!r} is not UTF-8, as keys are")
    return reference


def as_text(name: str) -> str:
    """A file's name or a message with one, as text: bytes that are no UTF-8 become \\xNN."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _expand_one(argument: str, selection: Selection) -> Iterator[ImageSource]:
    reference = read_reference(argument)
    if reference is not None:
        yield ImageSource(argument, reference)
        return
    path = Path(argument)
    if path.is_dir():
        yield from _walk(path, selection)
    elif path.exists():
        yield ImageSource(as_text(argument), path)
    else:
        raise InputNotFound(argument, "no such file or folder")


def _walk(folder: Path, selection: Selection) -> Iterator[ImageSource]:
    for parent, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(folders) if selection.recursive else []
        for name in sorted(files):
            path = Path(parent, name)
            if selection.takes(path.relative_to(folder)):
                yield ImageSource(as_text(str(path)), path)


def _unreadable(error: OSError) -> None:
    raise InputNotFound(error.filename, error.strerror or str(error)) from None
