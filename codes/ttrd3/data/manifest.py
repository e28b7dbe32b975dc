"""The two files that make a folder a prepared one: manifest.json (summary) and tiles.csv (a row per tile)."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttrd3.data.hashes import Fingerprint
from ttrd3.errors import DataError
from ttrd3.files import write_text

FORMAT = 1
SPLITS = ("train", "val", "test", "ref")
MANIFEST = "manifest.json"
TILES = "tiles.csv"
PLAN = "prepare-plan.json"  # there from the first tile until manifest.json is written
DEGRADATION = "8-bit RGB, Pillow BICUBIC (antialiased)"

_COLUMNS = ("name", "class", "split", "source", "box", "sha256", "perceptual")
_MASKED = "masked"  # one more column where any tile has a mask


@dataclass(frozen=True)
class TileRow:
    """One row of tiles.csv.

    Attributes:
        name: File name without suffix, unique within its class.
        class_name: Scene class.
        split: One of SPLITS.
        source: The image that the tile was cut from, relative to the source folder, with "/".
        box: Left, top, right, bottom in pixels of the source image.
        fingerprint: Hashes of the HR tile.
        masked: Share of its pixels that its mask leaves out, because they have no data or lie too near to such.
    """

    name: str
    class_name: str
    split: str
    source: str
    box: tuple[int, int, int, int]
    fingerprint: Fingerprint
    masked: float = 0.0


def write_rows(root: Path, rows: list[TileRow]) -> None:
    """Write ROOT/tiles.csv, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    any_masked = any(row.masked for row in rows)
    writer.writerow([*_COLUMNS, _MASKED] if any_masked else _COLUMNS)
    for row in rows:
        perceptual = "" if row.fingerprint.perceptual is None else f"{row.fingerprint.perceptual:016x}"
        box = " ".join(map(str, row.box))
        line = [row.name, row.class_name, row.split, row.source, box, row.fingerprint.exact, perceptual]
        writer.writerow([*line, f"{row.masked:.6f}" if row.masked else ""] if any_masked else line)
    write_text(root / TILES, text.getvalue())


def read_rows(root: Path) -> list[TileRow]:
    """The rows of ROOT/tiles.csv.

    Raises:
        DataError: Missing or not what `ttrd3 prepare` writes; names the line.
    """
    path = root / TILES
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}). Run `ttrd3 prepare` for {root} again with --overwrite."
        ) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if number == 1 and tuple(line) in (_COLUMNS, (*_COLUMNS, _MASKED)):
            continue
        try:
            rows.append(_row(line))
        except ValueError:
            raise DataError(
                f"{path}, line {number}: found {','.join(line)!r}, expected the columns {','.join(_COLUMNS)}. "
                f"Run `ttrd3 prepare` for {root} again with --overwrite."
            ) from None
    return rows


def _row(line: list[str]) -> TileRow:
    name, class_name, split, source, box, exact, perceptual, *masked = line
    if len(masked) > 1:
        raise ValueError(masked)
    left, top, right, bottom = map(int, box.split())
    if split not in SPLITS:
        raise ValueError(split)
    hashes = Fingerprint(exact, int(perceptual, 16) if perceptual else None)
    share = float(masked[0] or 0) if masked else 0.0
    return TileRow(name, class_name, split, source, (left, top, right, bottom), hashes, share)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a manifest or plan, whole or not at all; equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The manifest or plan at `path`, None where there is no such file.

    Raises:
        DataError: The file is not one that this version of `ttrd3 prepare` wrote.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content["format"]
        content["made_by"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{path}: not written by `ttrd3 prepare`. Give a folder that it prepared, or another --out."
        ) from None
    if found != FORMAT:
        raise DataError(
            f"{path}: found format {found!r}, expected {FORMAT}. Prepare the data again with this version of ttrd3."
        )
    return content
