"""Headers that lie: rows that a PNG or JPEG promises and does not hold, which decoders fill in silence."""

import contextlib
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from ttrd3.data.images import read_rgb
from ttrd3.errors import DataError

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's colour type
# First column and row and the distance of the next ones, of each pass of an interlaced PNG (Adam7).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_AT_ONCE = 2**20  # bytes
_ROWS = 256


def read_whole_rgb(path: Path, *, convert: bool = False) -> np.ndarray:
    """`read_rgb` of a file that users bring, whose header may promise more rows than there are.

    Returns:
        uint8 (H, W, 3).

    Raises:
        DataError: What `read_rgb` and `require_whole` refuse; names the file.
    """
    pixels = read_rgb(path, convert=convert)
    require_whole(path)
    return pixels


def require_whole(path: Path) -> None:
    """Refuse an image file, which can be decoded, but whose data ends before all of its rows are there.

    Raises:
        DataError: Names the file.
    """
    with path.open("rb") as file:
        start = file.read(len(_PNG))
    if (start == _PNG and _png_ends_early(path)) or (start.startswith(_JPEG) and _jpeg_ends_early(path)):
        raise DataError(
            f"{path}: its header promises more rows than the file holds; it is damaged, or its header was altered. "
            "Fetch it again, or leave it out (`ttrd3 prepare --skip-bad`)."
        )


def _png_ends_early(path: Path) -> bool:
    expected, found, inflate = None, 0, zlib.decompressobj()
    for kind, body in _chunks(path):
        if kind == b"IHDR":
            expected = png_bytes(*struct.unpack(">IIBB2xB", body))
        while kind == b"IDAT" and body and found < expected:
            found += len(inflate.decompress(body, _AT_ONCE))
            body = inflate.unconsumed_tail
    return expected is not None and found < expected


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    with path.open("rb") as file:
        file.seek(len(_PNG))
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            yield kind, file.read(length)
            file.seek(4, 1)  # its checksum, which the decoder has looked at


def png_bytes(width: int, height: int, depth: int, colour: int, interlaced: int) -> int:
    """Bytes of a PNG's image data, uncompressed: rows of whole bytes, one byte before each."""
    bits = depth * _CHANNELS[colour]
    sizes = [(width, height)]
    if interlaced:
        sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in _PASSES]
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0)


def _jpeg_ends_early(path: Path) -> bool:
    """GDAL, unlike Pillow, hands on what libjpeg warns of; other warnings than this one are harmless."""
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            stack.enter_context(rasterio.Env(GDAL_ERROR_ON_LIBJPEG_WARNING=True))
            dataset = stack.enter_context(rasterio.open(path, driver="JPEG"))
            for top in range(0, dataset.height, _ROWS):
                dataset.read(window=Window(0, top, dataset.width, min(_ROWS, dataset.height - top)))
    except RasterioError as error:
        return "premature end" in f"{error} {error.__cause__}".lower()
    return False
