"""Finds the images of a raw data set: class folders, a bare folder, or paired hr/ and ref/ folders."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ttrd3.data.images import SUFFIXES
from ttrd3.data.layout import some
from ttrd3.errors import DataError

BARE_CLASS = "images"


@dataclass(frozen=True)
class Source:
    """One raw image.

    Attributes:
        name: Path relative to the source folder (to its hr/ where paired), with "/".
        class_name: Its folder, or `images` where it lies in none.
        path: The image.
        reference: The image of the same place in ref/, where paired.
    """

    name: str
    class_name: str
    path: Path
    reference: Path | None = None

    @property
    def stem(self) -> str:
        """The relative name without suffix, so that a re-encoded data set is split alike."""
        return self.name.rpartition(".")[0]

    @property
    def changed(self) -> float:
        """When the content of the image or its reference last changed, in seconds since 1970."""
        paths = [path for path in (self.path, self.reference) if path is not None and path.exists()]
        return max((path.stat().st_mtime for path in paths), default=0.0)


@dataclass
class Listing:
    """What a source folder holds.

    Attributes:
        sources: The raw images, sorted by name.
        paired: Whether they come with references of the same place.
        problems: Relative name -> what is wrong with it, for images without a partner.
        ignored: Relative names of files that are no images by their suffix.
    """

    sources: list[Source]
    paired: bool
    problems: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    def digest(self) -> str:
        """SHA-256 over names and file sizes: tells whether the source folder is still the same."""
        lines = []
        for source in self.sources:
            sizes = [_size(path) for path in (source.path, source.reference) if path]
            lines.append(f"{source.name} {sizes}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def list_sources(folder: Path, *, paired: bool = False) -> Listing:
    """The raw images of `folder`; paired hr/ and ref/ folders are recognised, `paired` insists on them.

    Raises:
        DataError: No such folder, no images, or images at depths that leave their class in doubt.
    """
    if not folder.is_dir():
        raise DataError(f"--source: {folder} is not a folder. Give the folder that holds the class folders or images.")
    if (folder / "hr").is_dir() and (folder / "ref").is_dir():
        return _paired(folder)
    if paired:
        raise DataError(f"--paired: {folder} has no hr/ and ref/ folders. Put both there, with equal names in them.")
    images, ignored = _walk(folder)
    return Listing([Source(name, _class(name), path) for name, path in images.items()], False, {}, ignored)


def _paired(folder: Path) -> Listing:
    (hr, ignored), (references, more) = _walk(folder / "hr"), _walk(folder / "ref")
    partners: dict[str, list[str]] = {}
    for name in references:
        partners.setdefault(name.rpartition(".")[0], []).append(name)
    sources, problems = [], {}
    for name, path in hr.items():
        found = partners.pop(name.rpartition(".")[0], [])
        if len(found) == 1:
            sources.append(Source(name, _class(name), path, references[found[0]]))
        else:
            what = f"{len(found)} references ({some(found)})" if found else "no reference of the same name in ref/"
            problems[f"hr/{name}"] = f"hr/{name}: {what}; expected one. Add or remove files so that names pair."
    for names in partners.values():
        for name in names:
            problems[f"ref/{name}"] = f"ref/{name}: no image of the same name in hr/. Add it, or remove the reference."
    ignored = [f"hr/{name}" for name in ignored] + [f"ref/{name}" for name in more]
    return Listing(sources, True, problems, ignored)


def _size(path: Path) -> int:
    # A dangling link is told with the other unreadable images, when their headers are read.
    return path.stat().st_size if path.exists() else -1


def _class(name: str) -> str:
    return name.rpartition("/")[0] or BARE_CLASS


def _walk(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Relative name -> path of the images of `folder`, and the names of other files; hidden ones do not count."""
    images, ignored = {}, []
    for base, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            path = Path(base, file)
            if path.suffix.lower() in SUFFIXES and not file.startswith("."):
                images[path.relative_to(folder).as_posix()] = path
            elif not file.startswith("."):
                ignored.append(path.relative_to(folder).as_posix())
    _require_plain_names(folder, images)
    _require_one_depth(folder, sorted(images))
    return dict(sorted(images.items())), sorted(ignored)


def _unreadable(error: OSError) -> None:
    raise DataError(
        f"--source: {error.filename} cannot be read ({error.strerror}). Allow it, or give another folder."
    ) from error


def _require_plain_names(folder: Path, names: Iterable[str]) -> None:
    # tiles.csv is UTF-8 with a line per tile; bytes that are not UTF-8 stand in names as lone surrogates.
    odd = [repr(n) for n in names if len(n.splitlines()) > 1 or any("\ud800" <= c <= "\udfff" for c in n)]
    if odd:
        raise DataError(
            f"{folder}: {len(odd)} images with line breaks or bytes that are not UTF-8 in their names: {some(odd)}. "
            "Rename them."
        )


def _require_one_depth(folder: Path, names: list[str]) -> None:
    if not names:
        raise DataError(f"{folder}: no images in it; expected {', '.join(sorted(SUFFIXES))}, also in class folders.")
    deep = [name for name in names if name.count("/") > 1]
    if deep:
        raise DataError(
            f"{folder}: {len(deep)} images lie deeper than CLASS/NAME: {some(deep)}. "
            f"Give as --source the folder that holds the class folders, as {folder / Path(deep[0]).parent.parent}."
        )
    bare = [name for name in names if "/" not in name]
    if bare and len(bare) < len(names):
        raise DataError(
            f"{folder}: {len(bare)} images lie beside the class folders: {some(bare)}. Move them into a class folder."
        )
