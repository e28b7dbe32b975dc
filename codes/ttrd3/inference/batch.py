"""Many image files in turn: what fails is told and left, the others are done; processes share scenes and files."""

import contextlib
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from ttrd3.errors import DataError, UserError, is_out_of_memory
from ttrd3.inference.file_options import SUFFIXES, FileOptions, output_path, spread_path
from ttrd3.inference.jobs import Job, require_output_size
from ttrd3.inference.reference_option import opened
from ttrd3.inference.share import ALONE, Share
from ttrd3.inference.upscaler import Upscaler

logger = logging.getLogger(__name__)

_SHARED = 4  # tiles for each process from which on they share a file instead of taking whole ones


@dataclass
class Report:
    """What became of the files.

    Attributes:
        done: Results that were made.
        kept: Results that were there already, made in the same way.
        failed: (input, message) of the others.
    """

    done: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


def find_inputs(given: list[Path]) -> list[Path]:
    """Files as they are, folders as the images in them, sorted.

    Raises:
        DataError: A folder without images.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            images = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
            if not images:
                raise DataError(f"{path}: holds no PNG, JPEG, WebP or TIFF. Give files, or a folder that has some.")
            found += images
        else:
            found.append(path)
    return found


def upscale_files(
    upscaler: Upscaler, inputs: list[Path], out: Path, options: FileOptions, share: Share = ALONE
) -> Report:
    """Enlarge files into a folder.

    Args:
        upscaler: Weights and settings.
        inputs: Image files.
        out: A folder.
        options: What is asked of each.
        share: Which of several processes this is. Files of many tiles are shared by all of them; of the others each
            process takes whole files.

    Returns:
        In every process, the report on all files.

    Raises:
        DataError: References that are an index or a folder, and cannot be used for any input: nothing was begun.
    """
    given = options.reference
    if isinstance(given, Path) and upscaler.restorer.strength > 0:
        tile, device = upscaler.settings.tile, upscaler.device
        options = replace(options, reference=opened(given, inputs, out, tile, device, share))
    report, waiting, tiles = Report(), [], {}
    for source, output in _outputs(inputs, out, options, report):
        try:
            tiles[source] = _look(upscaler, source, output, options)
        except (UserError, OSError, MemoryError, RuntimeError) as error:
            _note(report, source, error)
            continue
        if tiles[source] is None:
            report.kept.append(output)
            logger.info("%s: is done already", output)
        else:
            waiting.append((source, output))
    share.gather(None)  # all have looked before anyone writes
    shared = [pair for pair in waiting if share.size > 1 and tiles[pair[0]] >= _SHARED * share.size]
    for source, output in shared:
        _run(upscaler, source, output, options, report, share)
    load, own = [0] * share.size, Report()
    for source, output in sorted((pair for pair in waiting if pair not in shared), key=lambda pair: -tiles[pair[0]]):
        rank = load.index(min(load))
        load[rank] += tiles[source]
        if rank == share.rank:
            _run(upscaler, source, output, options, own, ALONE)
    for other in share.gather(own):
        report.done += other.done
        report.failed += other.failed
    return report


def _outputs(inputs: list[Path], out: Path, options: FileOptions, report: Report) -> list[tuple[Path, Path]]:
    taken: dict[Path, Path] = {}
    found = []
    for source in inputs:
        try:
            output = output_path(source, out, options.format)
            results = [output, *([spread_path(output)] if options.samples > 1 else [])]
            for path in results:
                if path in taken:
                    raise DataError(f"{source}: its result would be {path}, as that of {taken[path]}. Rename one.")
            taken |= dict.fromkeys(results, source)
            found.append((source, output))
        except DataError as error:
            _note(report, source, error)
    return found


def _look(upscaler: Upscaler, source: Path, output: Path, options: FileOptions) -> int | None:
    """Number of tiles of a file that can be used; None if its result is there already."""
    with contextlib.ExitStack() as stack:
        job = Job(upscaler, source, output, options, stack)
        require_output_size(job)
        return None if job.is_finished() else job.tiles


def _run(upscaler: Upscaler, source: Path, output: Path, options: FileOptions, report: Report, share: Share) -> None:
    try:
        with contextlib.ExitStack() as stack:
            Job(upscaler, source, output, options, stack).run(share)
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        _note(report, source, error)
    else:
        report.done.append(output)
        if share.rank == 0:
            logger.info("%s: done", output)


def _note(report: Report, source: Path, error: Exception) -> None:
    if isinstance(error, UserError):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{error.filename or source}: cannot be read or written ({error.strerror or error})."
    else:
        if not is_out_of_memory(error):
            raise error
        text = f"{source}: out of memory even with the smallest tiles. Use another machine, or lower --tile."
    report.failed.append((source, text))
