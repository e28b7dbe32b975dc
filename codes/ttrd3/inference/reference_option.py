"""What `--reference` means: a picture or scene, a folder of the inputs' own by name, or a library of similar scenes."""

import logging
import zlib
from pathlib import Path

import torch

from ttrd3.data.descriptors import StatisticsDescriptor
from ttrd3.data.indexing import Summary, update_index
from ttrd3.data.layout import some
from ttrd3.data.library import tile_of
from ttrd3.environment import cores
from ttrd3.errors import DataError
from ttrd3.inference.retrieval import INDEX_SUFFIX, Library, is_index
from ttrd3.inference.share import Share

logger = logging.getLogger(__name__)

_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp")


def opened(given: Path, images: list[Path], out: Path, tile: int, device: torch.device, share: Share) -> Path | Library:
    """A library that is ready to be searched, or else the file or folder, from which `reference_path` takes.

    Args:
        given: A picture, a georeferenced scene, an index, or a folder.
        images: All inputs.
        out: Where the results go, and the index of a folder that serves as a library.
        tile: Side of the tiles that such a folder is indexed by.
        device: Of a descriptor that is computed by an encoder.
        share: Which of several processes this is; all must call this at the same point.

    Raises:
        DataError: An index or folder that cannot be used.
    """
    if given.is_dir() and not holds_namesakes(given, images):
        return Library.open(index_folder(given, out, tile, share), device)
    return Library.open(given, device) if is_index(given) else given


def reference_path(given: Path, image: Path) -> Path:
    """The reference of an image: the file itself, or in a folder the file of the image's name.

    Raises:
        DataError: No such file.
    """
    path = namesake(given, image) if given.is_dir() else given
    if path is None:
        raise DataError(f"{image}: --reference {given} holds no file of this name, as {image.name}. Add one.")
    if not path.exists():
        raise DataError(f"{given}: no such reference. Check the path, or give --reference none.")
    return path


def namesake(folder: Path, image: Path) -> Path | None:
    """The file of an image's name in a folder, whatever its kind; the image's own kind first."""
    names = (folder / f"{image.stem}{suffix}" for suffix in (image.suffix, *_SUFFIXES))
    return next((path for path in names if path.is_file()), None)


def holds_namesakes(folder: Path, images: list[Path]) -> bool:
    """Whether a folder gives each image the file of its name; if not, it is a library of similar scenes.

    Args:
        folder: The references.
        images: The inputs; those that are not there do not count.

    Raises:
        DataError: It holds the inputs themselves, or the names of some inputs only.
    """
    there = [image for image in images if image.is_file()]
    found = {image: path for image in there if (path := namesake(folder, image)) is not None}
    itself = [str(image) for image, path in found.items() if path.samefile(image)]
    if itself:
        raise DataError(
            f"--reference {folder}: holds the inputs themselves: {some(itself)}. Put sharp images into a folder of "
            "their own and give that."
        )
    if found and len(found) < len(there):
        missing = [image.name for image in there if image not in found]
        raise DataError(
            f"--reference {folder}: holds files of the names of {len(found)} of the {len(there)} inputs, expected all "
            f"or none. To give each input the file of its name, add those that are missing: {some(missing)}. To take "
            f"the folder as a library of similar scenes, run `ttrd3 index --library {folder} --out FILE` and give "
            "--reference FILE."
        )
    if found or not there:
        logger.info("--reference %s: each input takes the file of its name", folder)
        return True
    return False


def index_folder(folder: Path, out: Path, tile: int, share: Share) -> Path:
    """Index a folder as a library, in a hidden file beside the results: the next time only what changed is read.

    Files that cannot be used are left out with a warning.

    Args:
        folder: Sharp images at any depth, or a prepared folder.
        out: Where the results go.
        tile: Side of the tiles that images are cut into; those of a prepared folder may be smaller.
        share: Which of several processes this is; one of them makes the index.

    Returns:
        The index.

    Raises:
        DataError: The folder holds nothing that can be used, or the results.
    """
    where = folder.resolve()
    if out.resolve().is_relative_to(where):
        raise DataError(
            f"--reference {folder}: holds no file of any input's name, so that all in it serves as a library of sharp "
            f"images, also the results in {out}. Choose another --out."
        )
    path = out / f".{where.name}-{zlib.crc32(str(where).encode()):08x}{INDEX_SUFFIX}"
    share.together(lambda: _tell(folder, path, _indexed(folder, path, tile)) if share.rank == 0 else None)
    return path


def _indexed(folder: Path, path: Path, tile: int) -> Summary:
    try:
        tile = min(tile, tile_of(folder))
        return update_index(
            folder, path, StatisticsDescriptor(), tile=tile, stride=tile, workers=cores(), skip_bad=True
        )
    except DataError as error:
        raise DataError(
            f"--reference {folder}: holds no file of any input's name and is no library of similar scenes either: "
            f"{str(error).removeprefix('--library: ')}"
        ) from None


def _tell(folder: Path, path: Path, found: Summary) -> None:
    logger.info(
        "--reference %s: holds no file of any input's name and is taken as a library of similar scenes: %d tiles, "
        "indexed in %s",
        folder, found.tiles, path,
    )  # fmt: skip
