"""The state of the folder that `ttrd3 prepare` writes to: empty, begun, finished, or not its own."""

import logging
import shutil
from pathlib import Path
from typing import Any

from ttrd3.data.layout import some
from ttrd3.data.manifest import MANIFEST, PLAN, SPLITS, TILES, read_json
from ttrd3.data.sources import Listing
from ttrd3.errors import UserError
from ttrd3.files import PARTIAL

logger = logging.getLogger(__name__)

LOCK = ".prepare.lock"  # held while tiles are made

# These decide what is refused, never how a tile looks: a begun preparation may go on with others.
_FREE_TO_CHANGE = ("skip_bad", "convert")


def require_apart(source: Path, out: Path) -> None:
    """Refuse an output folder inside the source folder, or the reverse.

    Raises:
        UserError: Names both.
    """
    a, b = source.resolve(), out.resolve()
    if a == b or a in b.parents or b in a.parents:
        raise UserError(f"--out: {out} and --source {source} lie in each other. Choose an --out beside the source.")


def is_finished(out: Path, identity: dict[str, Any]) -> bool:
    """Whether `out` was already prepared by the same command; False where work may begin or go on.

    Raises:
        UserError: The folder is not empty and not made by prepare, or made with other options or sources.
    """
    manifest = read_json(out / MANIFEST)
    if manifest is not None:
        _require_same(out, manifest, identity, free=())
        return True
    plan = read_json(out / PLAN)
    if plan is not None:
        _require_same(out, plan, identity, free=_FREE_TO_CHANGE)
    elif others := _contents(out):
        raise UserError(
            f"--out: {out} is not empty and was not made by `ttrd3 prepare` (it holds {some(others)}). "
            "Choose a new or empty folder."
        )
    return False


def tell_changed(listing: Listing, mark: Path) -> None:
    """Warn of source images that were changed after `mark`, the plan or manifest of tiles that are there, was written.

    Not refused: copying a data set may renew all its times and change nothing.
    """
    if not mark.is_file():
        return
    made = mark.stat().st_mtime
    if changed := [source.name for source in listing.sources if source.changed > made]:
        logger.warning(
            "%s: %d source images were changed after its tiles were begun: %s. Add --overwrite to make it anew, "
            "unless only their dates are new.",
            mark.parent,
            len(changed),
            some(changed),
        )


def is_ours(out: Path) -> bool:
    """Whether prepare made `out`, finished or not.

    Raises:
        DataError: A manifest or plan is there that prepare did not write.
    """
    return read_json(out / MANIFEST) is not None or read_json(out / PLAN) is not None


def remove_prepared(out: Path) -> None:
    """Delete what prepare made in `out`, and nothing else; the plan last, so that it stays recognisable.

    Raises:
        UserError: Something cannot be deleted.
    """
    try:
        if (out / MANIFEST).is_file():
            (out / MANIFEST).replace(out / PLAN)
        for folder in _tile_folders(out):
            shutil.rmtree(folder)
        for split in SPLITS:
            if (out / split).is_dir() and not any((out / split).iterdir()):
                (out / split).rmdir()
        (out / TILES).unlink(missing_ok=True)
        (out / PLAN).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"--overwrite: {error.filename} cannot be deleted ({error.strerror}). "
            "Delete it yourself, or choose another --out."
        ) from error


def remove_partial(out: Path) -> None:
    """Delete the half-written files that a killed process left behind."""
    pattern = f".*{PARTIAL}"
    for path in [*out.glob(pattern), *(path for folder in _tile_folders(out) for path in folder.rglob(pattern))]:
        path.unlink(missing_ok=True)


def _tile_folders(out: Path) -> list[Path]:
    folders = [out / split / kind for split in SPLITS for kind in ("hr", "lr", "ref", "mask")]
    return [folder for folder in folders if folder.is_dir()]


def _contents(out: Path) -> list[str]:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file, expected a folder. Choose another --out.")
    return [path.name for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []


def _require_same(out: Path, found: dict[str, Any], wanted: dict[str, Any], free: tuple[str, ...]) -> None:
    there, now = found.get("options", {}), wanted["options"]
    differing = [
        f"{name} was {there.get(name)!r} and is now {now.get(name)!r}"
        for name in sorted(there.keys() | now.keys())
        if name not in free and there.get(name) != now.get(name)
    ]
    if found.get("sources") != wanted["sources"]:
        differing.append("the source images are not the same (names or sizes)")
    if differing:
        raise UserError(
            f"--out: {out} was prepared otherwise: {'; '.join(differing)}. "
            "Choose another --out, or add --overwrite to delete it and start anew."
        )
