"""Makes the index of a library, or brings it up to date: reads what is new or changed, drops what is gone."""

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ttrd3.data.degrade import SCALE, degrade
from ttrd3.data.descriptors import Descriptor
from ttrd3.data.hashes import fingerprint
from ttrd3.data.index import Header, Index, Tiles, joined, read_index, tile_rows, write_index
from ttrd3.data.layout import some
from ttrd3.data.library import LibraryFile, list_library
from ttrd3.data.plan import PROBLEMS, shortened
from ttrd3.data.pool import run_jobs
from ttrd3.data.tiling import Box, grid
from ttrd3.data.windows import in_parts, read_windows, size_of, whole_windows
from ttrd3.errors import DataError, UserError
from ttrd3.files import require_writable

_WINDOWS = 256  # that one job takes of a file that can be read in parts
_BATCH = 8  # tiles that are described at once

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What became of an index: counts of files, and of tiles in all."""

    tiles: int
    new: int
    changed: int
    kept: int
    deleted: int
    left_out: dict[str, str]


@dataclass(frozen=True)
class _Job:
    file: int  # its number in the listing
    name: str
    path: Path
    boxes: list[Box]


@dataclass(frozen=True)
class _Part:
    """What came of a job: rows and descriptors, if any, and the number of windows with holes, or its file's problem."""

    job: _Job
    tiles: Tiles | None = None
    descriptors: np.ndarray | None = None
    problem: str | None = None
    holes: int = 0


def update_index(
    library: Path,
    out: Path,
    descriptor: Descriptor,
    *,
    tile: int,
    stride: int,
    workers: int,
    skip_bad: bool = False,
    weights: Path | None = None,
) -> Summary:
    """Describe every whole tile of a library's images in an index file, which is then up to date.

    Windows of GeoTIFFs with pixels without data (nodata value, mask or alpha band) are left out and counted in the log.
    Files whose name, size and time of change are those of the index are not read again, wherever the library lies.

    Args:
        library: Folder of images and GeoTIFFs at any depth, or a prepared folder (its train and ref).
        out: The index file. If it is there, it must be an index.
        descriptor: Describes the degraded tiles.
        tile: Side of a tile in pixels, a multiple of 4.
        stride: Distance between the tiles of one image.
        workers: Processes.
        skip_bad: Leave out files that cannot be used, and say so, instead of refusing all.
        weights: File of the descriptor's weights, to be remembered.

    Raises:
        UserError: Wrong options, or a place that cannot be written; `out` keeps its former content.
        DataError: Files that cannot be used; one message names up to 20 of them, and nothing is written.
    """
    if tile < SCALE or tile % SCALE:
        raise UserError(f"--tile: found {tile}, expected a multiple of {SCALE}. Set it to such, as 256.")
    if stride < 1:
        raise UserError(f"--stride: found {stride}, expected at least 1. Leave it out for adjoining tiles.")
    files, problems = list_library(library)
    former = _former(out, descriptor, tile, stride)
    known = {file.name: file for file in former.files} if former else {}
    # An index that nobody looked for holes for may have tiles with such.
    stale = {name for name in known if former.header.holes is None and in_parts(Path(name))}
    fresh = [number for number, file in enumerate(files) if known.get(file.name) != file or file.name in stale]
    require_writable(out.parent, "--out")

    jobs = list(_jobs(library, files, fresh, problems, tile, stride))
    parts = _run(jobs, descriptor, workers, skip_bad, problems) if skip_bad or not problems else []
    if problems and not skip_bad:
        raise _refused(
            library, problems, "or run again with --skip-bad, which leaves them out and lists them in the index"
        )
    for text in shortened(problems):
        logger.warning("left out: %s", text)
    changed = sum(files[number].name in known and files[number].name not in problems for number in fresh)
    new = sum(files[number].name not in known and files[number].name not in problems for number in fresh)
    now = {file.name for file in files}
    root = str(library.resolve())
    holes = _holes(former, now - {files[number].name for number in fresh}, parts)
    header = Header(
        root, tile, stride, descriptor.kind, descriptor.standardized, weights and str(weights), problems, holes
    )
    if holes:
        total = sum(holes.values())
        logger.info("left out: %d windows with pixels without data, of %d GeoTIFFs: %s", total, len(holes), some(holes))
    count = _write(out, header, files, fresh, former, parts)
    return Summary(count, new, changed, len(files) - len(fresh), len(known.keys() - now), problems)


def _former(out: Path, descriptor: Descriptor, tile: int, stride: int) -> Index | None:
    """The index that can be brought up to date, None where all must be read."""
    if not out.exists():
        return None
    former = read_index(out)
    made, asked = (former.header.kind, former.header.tile, former.header.stride), (descriptor.kind, tile, stride)
    if made != asked:
        logger.info("%s: made anew: it was of (descriptor, tile, stride) %s and is now of %s", out, made, asked)
        return None
    return former


def _jobs(
    library: Path, files: list[LibraryFile], fresh: list[int], problems: dict[str, str], tile: int, stride: int
) -> Iterator[_Job]:
    """The work of all fresh files whose headers can be read; the others are added to `problems`."""
    for number in fresh:
        path = library / files[number].name
        try:
            width, height = size_of(path)
        except DataError as error:
            problems[files[number].name] = str(error)
            continue
        boxes = grid(width, height, tile, stride)
        if not boxes:
            problems[files[number].name] = (
                f"{path}: {width} x {height} pixels, smaller than the tile of {tile} (--tile)."
            )
        step = _WINDOWS if in_parts(path) else max(1, len(boxes))
        for start in range(0, len(boxes), step):
            yield _Job(number, files[number].name, path, boxes[start : start + step])


def _examine(job: _Job, descriptor: Descriptor) -> _Part:
    prints, found, batch = [], [], []
    try:
        boxes = whole_windows(job.path, job.boxes)
        for image in read_windows(job.path, boxes):
            prints.append(fingerprint(image))
            batch.append(degrade(image))
            if len(batch) == _BATCH or len(prints) == len(boxes):
                found.append(descriptor(np.stack(batch)))
                batch = []
    except DataError as error:
        return _Part(job, problem=str(error))
    holes = len(job.boxes) - len(boxes)
    if not boxes:
        return _Part(job, holes=holes)
    return _Part(job, tile_rows(job.file, boxes, prints), np.concatenate(found), holes=holes)


def _run(
    jobs: list[_Job], descriptor: Descriptor, workers: int, skip_bad: bool, problems: dict[str, str]
) -> list[_Part]:
    """The parts of all files that are good in all their parts; the others are added to `problems`."""
    if not jobs:
        return []
    good = []
    parts = run_jobs(
        partial(_examine, descriptor=descriptor), jobs, min(workers, len(jobs)) if descriptor.in_workers else 1
    )
    with tqdm(total=sum(len(job.boxes) for job in jobs), unit="tile", desc="index", disable=None) as bar:
        try:
            for part in parts:
                if part.problem is None:
                    good.append(part)
                else:
                    problems[part.job.name] = part.problem
                if len(problems) >= PROBLEMS and not skip_bad:
                    break
                bar.update(len(part.job.boxes))
        finally:
            parts.close()  # ends the workers
    return [part for part in good if part.job.name not in problems]


def _holes(former: Index | None, kept: set[str], parts: list[_Part]) -> dict[str, int]:
    """Name -> number of windows with holes of the files that are kept as the index has them, and of those just read."""
    known = (former and former.header.holes) or {}
    found = {name: count for name, count in known.items() if name in kept}
    for part in parts:
        if part.holes:
            found[part.job.name] = found.get(part.job.name, 0) + part.holes
    return dict(sorted(found.items()))


def _write(
    out: Path, header: Header, files: list[LibraryFile], fresh: list[int], former: Index | None, parts: list[_Part]
) -> int:
    """Put what is kept and what is new together, by file; returns the number of tiles."""
    kept = sorted(set(range(len(files))) - set(fresh))
    of_index = {files[number].name: number for number in kept}
    renumbered = [of_index.get(file.name, -1) for file in former.files] if former else []
    stays = np.array(renumbered, dtype=np.int32)[former.tiles.file] if former else np.empty(0, dtype=np.int32)
    described = [part for part in parts if part.tiles is not None]
    pieces = [part.tiles for part in described]
    if former:
        pieces.insert(0, replace(former.tiles, file=stays).taken(stays >= 0))
    if not sum(map(len, pieces)):
        texts = {name: f"{Path(header.root, name)}: pixels without data in every window" for name in header.holes}
        raise _refused(Path(header.root), header.left_out | texts, "or add others: without them none is left")
    tiles = joined(pieces)

    order = np.argsort(tiles.file, kind="stable")  # the tiles of a file keep their order
    if former and not parts and header == former.header and len(tiles) == len(former.tiles):
        return len(tiles)  # not a byte would change
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    width = described[0].descriptors.shape[1] if described else former.width
    descriptors = np.empty((len(tiles), width), dtype=np.float32)
    start = 0
    for chunk in itertools.chain(_kept(former, stays), (part.descriptors for part in described)):
        descriptors[place[start : start + len(chunk)]] = chunk
        start += len(chunk)
    tiles = tiles.taken(order)
    # Files of which nothing is left stay listed, so that they are not read again.
    used = sorted({*tiles.file.tolist(), *(n for n, file in enumerate(files) if file.name in header.holes)})
    tiles = replace(tiles, file=np.searchsorted(used, tiles.file).astype(np.int32))
    write_index(out, header, [files[number] for number in used], tiles, descriptors)
    return len(tiles)


def _kept(former: Index | None, stays: np.ndarray) -> Iterator[np.ndarray]:
    start = 0
    for chunk in former.descriptors() if former else ():
        yield chunk[stays[start : start + len(chunk)] >= 0]
        start += len(chunk)


def _refused(library: Path, problems: dict[str, str], way_out: str) -> DataError:
    return DataError(
        "\n  ".join([f"{library}: nothing was written; {len(problems)} files with problems:", *shortened(problems)])
        + f"\nMend them, {way_out}."
    )
