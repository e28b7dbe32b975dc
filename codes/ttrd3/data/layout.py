"""Finds the tiles of a prepared folder: ours, or the authors' published layout as it is.

Ours:      ROOT/SPLIT/{hr,lr}/CLASS/NAME.png, paired references in ROOT/SPLIT/ref/CLASS/NAME.png, manifest, tiles.csv;
           where a tile has pixels without data, ROOT/SPLIT/mask/CLASS/NAME.png
Authors':  ROOT/SPLIT/{hr_256,lr_64,sr_64_256}/NAME.png, flat; the class is the name up to its number
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ttrd3.data.degrade import SCALE
from ttrd3.data.hashes import Fingerprint
from ttrd3.data.images import SUFFIXES, read_size
from ttrd3.data.manifest import MANIFEST, PLAN, SPLITS, read_json, read_rows
from ttrd3.errors import DataError

LISTED = 10  # names that an error message lists at most


@dataclass(frozen=True)
class Tile:
    """One HR tile and what belongs to it.

    Attributes:
        name: Unique within its split: CLASS/NAME in our layout, NAME in the authors'.
        class_name: Scene class.
        hr: HR file.
        lr: LR file; None where there is none for a tile that only serves as reference.
        reference: File of the paired reference, where there are such.
        fingerprint: Hashes where they are stored, else None.
        source: Image that the tile was cut from and its box there, where known.
        mask: File that tells where HR has data; None: everywhere.
    """

    name: str
    class_name: str
    hr: Path
    lr: Path | None
    reference: Path | None = None
    fingerprint: Fingerprint | None = None
    source: tuple[str, tuple[int, int, int, int]] | None = None
    mask: Path | None = None

    def overlaps(self, other: "Tile") -> bool:
        """Whether both show the same pixels of one source image (a --stride smaller than the --tile)."""
        if self.source is None or other.source is None or self.source[0] != other.source[0]:
            return False
        (left, top, right, bottom), (x0, y0, x1, y1) = self.source[1], other.source[1]
        return left < x1 and x0 < right and top < y1 and y0 < bottom


def has_split(root: Path, split: str) -> bool:
    """Whether a prepared folder has tiles for `split`."""
    folders = _folders(root / split, "hr")
    return any(path.suffix.lower() in SUFFIXES for folder in folders for path in folder.rglob("*"))


def find_tiles(root: Path, split: str, *, need_lr: bool = True) -> list[Tile]:
    """The tiles of ROOT/SPLIT, sorted by name.

    Args:
        root: A prepared folder.
        split: "train", "val", "test" or "ref".
        need_lr: Whether every HR must have its LR (not for a pool of references).

    Raises:
        DataError: No such folder or split, half-finished or damaged preparation, HR without LR or the reverse.
    """
    if not root.is_dir():
        raise DataError(absent(root))
    if read_json(root / MANIFEST) is not None:
        return _ours(root, split)
    if read_json(root / PLAN) is not None:
        raise DataError(
            f"{root}: `ttrd3 prepare` has not finished here ({PLAN} is there, {MANIFEST} is not). "
            "Run the same `ttrd3 prepare` command again; it goes on where it stopped."
        )
    if any(_folders(root / any_split, "hr", numbered=True) for any_split in SPLITS):
        return _authors(root, split, need_lr)
    raise DataError(
        f"{root}: not a prepared folder: found neither {MANIFEST} nor the authors' train/hr_256. "
        f"If these are raw images, run `ttrd3 prepare --source {root} --out DIR` and set the root to DIR."
    )


def absent(root: Path) -> str:
    """What to say where the data root is not there, as with the default options on a fresh machine."""
    return (
        f"data root {root}: no such folder. Prepare your data (in the paper the 30 class folders of AID) by\n"
        f"    ttrd3 prepare --source DIR --out {root}\n"
        "and set the data roots in the options to it. To try TTRD3 without any data, run\n"
        "    sh train.sh options/quickstart.yml"
    )


def some(names: Iterable[str]) -> str:
    """Up to LISTED names and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - LISTED} more" if len(ordered) > LISTED else ""
    return ", ".join(ordered[:LISTED]) + more


def _folders(parent: Path, kind: str, *, numbered: bool = False) -> list[Path]:
    """The folders `hr` (ours) and `hr_256`, `hr_128`... (the authors') in `parent`."""
    pattern = rf"{kind}_\d+" if numbered else rf"{kind}(_\d+)?"
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and re.fullmatch(pattern, path.name))


def _no_split(root: Path, split: str) -> DataError:
    there = [name for name in SPLITS if has_split(root, name)]
    return DataError(
        f"{root}: no images for the split {split!r}; found: {', '.join(there) or 'no split at all'}. "
        f"Set the split to one that is there, or prepare the data again (`ttrd3 prepare --help`: --{split})."
    )


def _ours(root: Path, split: str) -> list[Tile]:
    rows = {f"{row.class_name}/{row.name}": row for row in read_rows(root) if row.split == split}
    if not rows:
        raise _no_split(root, split)
    base = root / split
    hr, lr, references = (_by_class(base / kind) for kind in ("hr", "lr", "ref"))
    _require_pairs(base, hr, lr)
    if hr.keys() != rows.keys():
        listed, found = rows.keys() - hr.keys(), hr.keys() - rows.keys()
        what = f"{len(listed)} listed in tiles.csv are missing: {some(listed)}" if listed else ""
        what += f"{'; ' if what and found else ''}{len(found)} not listed there: {some(found)}" if found else ""
        raise DataError(f"{base}/hr: does not fit tiles.csv: {what}. Prepare it again with --overwrite.")
    if references and references.keys() != hr.keys():
        raise DataError(
            f"{base}/ref: HR without a paired reference, or the reverse: {some(references.keys() ^ hr.keys())}. "
            "Prepare it again with --overwrite."
        )
    masks, masked = _by_class(base / "mask"), {name for name, row in rows.items() if row.masked}
    if masks.keys() != masked:
        raise DataError(
            f"{base}/mask: does not fit tiles.csv: masks that are missing or not listed there: "
            f"{some(masks.keys() ^ masked)}. Prepare it again with --overwrite."
        )
    return [
        Tile(
            name, row.class_name, hr[name], lr[name], references.get(name), row.fingerprint, (row.source, row.box),
            masks.get(name),
        )
        for name, row in sorted(rows.items())
    ]  # fmt: skip


def _by_class(folder: Path) -> dict[str, Path]:
    return {f"{path.parent.name}/{path.stem}": path for path in folder.glob("*/*.png")}


def _authors(root: Path, split: str, need_lr: bool) -> list[Tile]:
    base = root / split
    hr_folders, lr_folders = (_folders(base, kind, numbered=True) for kind in ("hr", "lr"))
    if not hr_folders and not lr_folders:
        raise _no_split(root, split)
    if len(hr_folders) != 1 or (need_lr and len(lr_folders) != 1):
        found = ", ".join(path.name for path in [*hr_folders, *lr_folders])
        raise DataError(f"{base}: found {found}; expected one hr_SIZE folder and one lr_SIZE folder. Put them right.")
    hr = _flat(hr_folders[0])
    if not hr:
        raise DataError(f"{hr_folders[0]}: no images in it. Unpack the data again, or run `ttrd3 prepare`.")
    lr = _flat(lr_folders[0]) if len(lr_folders) == 1 else {}
    if need_lr:
        _require_pairs(base, hr, lr)
        for name in hr:
            require_scale(hr[name], read_size(hr[name]), lr[name], read_size(lr[name]))
    return [Tile(name, class_of(name), hr[name], lr.get(name)) for name in sorted(hr)]


def _flat(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}


def class_of(name: str) -> str:
    """Scene class in a name of the authors' layout: what stands before its numbers, else before its last "_".

    "dense_residential_12", "airport12" and "viaduct_12_0_1" belong to dense_residential, airport and viaduct.
    """
    return re.sub(r"[_\-\d]*\d$", "", name) or name if name[-1:].isdigit() else name.rpartition("_")[0] or name


def _require_pairs(base: Path, hr: dict[str, Path], lr: dict[str, Path]) -> None:
    for kind, alone in (("HR without LR", hr.keys() - lr.keys()), ("LR without HR", lr.keys() - hr.keys())):
        if alone:
            raise DataError(
                f"{base}: {len(alone)} {kind}: {some(alone)}. Add the missing files, or prepare the data again."
            )


def require_scale(hr: Path, hr_size: tuple[int, int], lr: Path, lr_size: tuple[int, int]) -> None:
    """Refuse an LR that is not exactly a quarter of its HR; sizes are (width, height).

    Raises:
        DataError: Names both files and sizes.
    """
    if hr_size != (lr_size[0] * SCALE, lr_size[1] * SCALE):
        raise DataError(
            f"{lr}: found {lr_size[0]} x {lr_size[1]} pixels, expected a quarter of the {hr_size[0]} x {hr_size[1]} "
            f"of {hr}. Make the LR again from the HR."
        )
