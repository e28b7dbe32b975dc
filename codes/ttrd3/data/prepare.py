"""Makes a prepared folder (layout.py) of a raw data set, on all cores, resumable, never half-finished in silence."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ttrd3.data.degrade import SCALE
from ttrd3.data.hashes import duplicate_pairs
from ttrd3.data.layout import some
from ttrd3.data.manifest import DEGRADATION, MANIFEST, PLAN, SPLITS, TILES, TileRow, read_json, write_json, write_rows
from ttrd3.data.output import LOCK, is_finished, is_ours, remove_partial, remove_prepared, require_apart, tell_changed
from ttrd3.data.plan import PROBLEMS, PrepareOptions, bytes_needed, identity, plan_jobs, shortened, too_many
from ttrd3.data.pool import run_jobs
from ttrd3.data.sources import list_sources
from ttrd3.data.survey import scaled
from ttrd3.data.tiling import Job, cut
from ttrd3.errors import DataError
from ttrd3.files import Lock, require_free_space, require_writable, sha256

logger = logging.getLogger(__name__)


@dataclass
class _Result:
    rows: list[TileRow] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    without_data: int = 0


def prepare(source: Path, out: Path, options: PrepareOptions, *, workers: int, overwrite: bool = False) -> dict:
    """Cut the images under `source` into HR tiles with LR, split them, and write manifest.json and tiles.csv.

    The same call again goes on where an interrupted one stopped, and does nothing where one has finished.

    Args:
        source: Class folders, a bare folder of images, or paired hr/ and ref/ folders.
        out: Folder to make; a folder that prepare did not make is never touched.
        options: What decides the content.
        workers: Processes.
        overwrite: Delete what prepare made in `out` before, and start anew.

    Returns:
        The manifest.

    Raises:
        UserError: Wrong options, an output folder that cannot be used or that another process fills, too little disk.
        DataError: Images that cannot be used; one message names all of them, up to 20.
        KeyboardInterrupt: Ctrl-C, after the tiles at hand were written whole.
    """
    options.check()
    require_apart(source, out)
    listing = list_sources(source, paired=options.paired)
    mark = identity(options, listing)
    start_anew = overwrite and is_ours(out)
    if not start_anew and is_finished(out, mark):
        logger.info("%s: already prepared, nothing to do", out)
        tell_changed(listing, out / MANIFEST)
        (out / PLAN).unlink(missing_ok=True)  # left where the process was killed right after the manifest
        return read_json(out / MANIFEST)

    jobs, problems = plan_jobs(listing, out, options)
    if problems and not options.skip_bad:
        raise too_many(problems, f"{source}: nothing was written")
    declared, radiometry = options.declared, None
    if declared.anything:
        jobs, radiometry = scaled(jobs, declared.scaling)
    # What is deleted for a new start makes room for as much; before it, tiles that are there count as no need.
    require_free_space(out, bytes_needed(jobs, options.tile), f"preparing {len(jobs)} images")
    require_writable(out, "--out")
    lock = Lock(out / LOCK)
    lock.take(f"--out: {out}")
    try:
        if start_anew:
            remove_prepared(out)
        remove_partial(out)
        tell_changed(listing, out / PLAN)
        write_json(out / PLAN, mark)
        result = _run(jobs, workers, options.skip_bad)
        problems |= result.problems
        _require_tiles(source, out, options, result, problems)
        manifest = mark | _summary(out, source, result.rows, problems, listing.ignored, options, listing.paired)
        if radiometry is not None:
            manifest["radiometry"] = radiometry
        if any(job.radiometry or job.reference_radiometry for job in jobs):
            masked = sum(row.masked > 0 for row in result.rows)
            manifest["nodata"] = {"tiles_masked": masked, "tiles_left_out": result.without_data}
        write_json(out / MANIFEST, manifest)
        (out / PLAN).unlink()
    finally:
        lock.release()
    return manifest


def _require_tiles(source: Path, out: Path, options: PrepareOptions, result: _Result, problems: dict[str, str]) -> None:
    """Refuse to finish without tiles, or with bad images that nobody agreed to leave out; tell those left out."""
    if not result.rows and not problems:
        raise DataError(
            f"{source}: all {result.without_data} tiles lack data in more than {options.max_nodata:.0%} of their "
            "pixels, or in too many places. Look at the nodata value and masks of the images, or raise --max-nodata."
        )
    if not result.rows or (problems and not options.skip_bad):
        raise too_many(problems, f"{source}: {len(result.rows)} tiles are ready in {out}, but not all")
    for text in shortened(problems):
        logger.warning("left out: %s", text)


def _run(jobs: list[Job], workers: int, skip_bad: bool) -> _Result:
    result = _Result()
    done = 0
    with tqdm(total=len(jobs), unit="image", desc="prepare", disable=None) as bar:
        outcomes = run_jobs(cut, jobs, min(workers, len(jobs)))
        try:
            for outcome in outcomes:
                result.rows += outcome.rows
                result.without_data += outcome.without_data
                if outcome.problem is not None:
                    result.problems[outcome.job.source.name] = outcome.problem
                if len(result.problems) >= PROBLEMS and not skip_bad:
                    break
                done += 1
                bar.update()
        except KeyboardInterrupt:
            logger.warning("stopped after %d of %d images; run the same command again to go on", done, len(jobs))
            raise
        finally:
            outcomes.close()  # ends the workers
    return result


def _summary(
    out: Path,
    source: Path,
    rows: list[TileRow],
    problems: dict[str, str],
    ignored: list[str],
    options: PrepareOptions,
    paired: bool,
) -> dict[str, Any]:
    """Write tiles.csv and gather what the manifest says beside what was asked for."""
    rows = sorted(rows, key=lambda row: (SPLITS.index(row.split), row.class_name, row.name))
    write_rows(out, rows)
    return {
        "scale": SCALE,
        "tile": options.tile,
        "degradation": DEGRADATION,
        "paired": paired,
        "counts": _counts(rows),
        # Relative, so that the same data give the same manifest on any machine.
        "left_out": {name: text.replace(f"{source}/", "") for name, text in sorted(problems.items())},
        "not_images": ignored,
        "duplicates_across_splits": _duplicates(rows),
        "tiles_sha256": sha256(out / TILES),
    }


def _counts(rows: list[TileRow]) -> dict[str, dict[str, int]]:
    counted = Counter((row.split, row.class_name) for row in rows)
    counts: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    for (split, class_name), number in counted.items():
        counts[split][class_name] = number
    return counts


def _duplicates(rows: list[TileRow]) -> list[list[str]]:
    """Pairs "SPLIT/CLASS/NAME" of the same image, exactly or re-encoded, in different splits."""
    by_split = {split: [row for row in rows if row.split == split] for split in SPLITS}
    found = []
    for large, small in combinations(SPLITS, 2):  # train first: the loop over Python objects is the smaller split's
        first, second = by_split[small], by_split[large]
        for i, j in duplicate_pairs([row.fingerprint for row in first], [row.fingerprint for row in second]):
            found.append([f"{row.split}/{row.class_name}/{row.name}" for row in (second[j], first[i])])
    if found:
        logger.warning(
            "%d pairs of the same image in different splits: %s", len(found), some(" = ".join(pair) for pair in found)
        )
    return sorted(found)
