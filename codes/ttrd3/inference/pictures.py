"""Pictures as scenes: arrays in memory, and PNG, JPEG and WebP files, which are decoded and written as a whole."""

import io
import json
import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ttrd3 import __version__
from ttrd3.data.whole import read_whole_rgb
from ttrd3.errors import DataError
from ttrd3.files import replacing
from ttrd3.inference.ranges import as_bytes

SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

_LARGEST = {"JPEG": 65500, "WEBP": 16383, "PNG": 2**31 - 1}  # pixels a side
_ABOUT, _SOFTWARE = 0x010E, 0x0131  # EXIF: ImageDescription, Software
_OPTIONS = {
    "PNG": {"compress_level": 6},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
}
_PREVIEW = 1024
_SPACE, _RGB_SPACE = slice(16, 20), b"RGB "  # of an ICC profile's header
# What Pillow raises on files that are none and on EXIF that is damaged, of wrong types, or too long for the format.
_BAD_EXIF = (
    OSError, struct.error, ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, SyntaxError,
)  # fmt: skip

logger = logging.getLogger(__name__)


class ArrayScene:
    """An image in memory: uint8 (h, w, 3), or float32 where 0..1 is black to white."""

    def __init__(self, pixels: np.ndarray, identity: str = ""):
        self.height, self.width = pixels.shape[:2]
        self.identity = identity
        self._pixels = pixels

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A window."""
        return self._pixels[top : top + height, left : left + width]

    def is_empty(self, top: int, left: int, height: int, width: int) -> bool:  # noqa: ARG002 - one interface
        """Never."""
        return False

    def preview(self) -> np.ndarray:
        """Every n-th pixel, uint8."""
        n = max(1, max(self.height, self.width) // _PREVIEW)
        return as_bytes(self._pixels[::n, ::n])


def open_picture(path: Path) -> ArrayScene:
    """A PNG, JPEG or WebP file; what is no RGB of 8 bits but becomes so without loss is converted.

    Raises:
        DataError: It cannot be used; says why.
    """
    return ArrayScene(read_whole_rgb(path, convert=True), file_identity(path))


def file_identity(path: Path) -> str:
    """Tells a file from others and from other states of itself."""
    about = path.stat()
    return f"{path.name}, {about.st_size} bytes, {about.st_mtime_ns}"


def require_writable_size(path: Path, kind: str, height: int, width: int) -> None:
    """Refuse an image that the file format cannot hold.

    Raises:
        DataError: Names the format and its largest side.
    """
    if max(height, width) > _LARGEST[kind]:
        raise DataError(
            f"{path}: {width} x {height} pixels are more than {kind} can hold ({_LARGEST[kind]} a side). "
            "Use --format tiff."
        )


def write_picture(path: Path, kind: str, image: np.ndarray, source: Path, about: dict[str, Any]) -> None:
    """Write uint8 (H, W, 3), whole or not at all, with the source's EXIF and RGB profile and with `about`.

    Raises:
        UserError: The folder cannot be written or is full.
    """
    tags = {_ABOUT: json.dumps(about, sort_keys=True), _SOFTWARE: f"ttrd3 {__version__}"}
    exif, extra = Image.Exif(), {}
    exif.update(tags)
    if source.suffix.lower() in SUFFIXES:
        with Image.open(source) as original:
            exif = _joined_exif(original, source, kind, tags) or exif
            profile = original.info.get("icc_profile") or b""
        if profile[_SPACE] == _RGB_SPACE:  # the result is RGB, also that of a grey picture
            extra["icc_profile"] = profile
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, kind, exif=exif, **_OPTIONS[kind], **extra)


def _joined_exif(original: Image.Image, source: Path, kind: str, tags: dict[int, str]) -> Image.Exif | None:
    """A picture's EXIF, of which orientation, place and time stay true, and `tags`.

    None, with a warning, where it is damaged or the format cannot hold it.
    """
    try:
        exif = original.getexif()
        exif.update(tags)
        Image.new("RGB", (1, 1)).save(io.BytesIO(), kind, exif=exif)  # much of it is looked at only now
    except _BAD_EXIF as error:
        logger.warning(
            "%s: its EXIF is damaged, or more than %s can hold (%s): the result has none of it, neither orientation "
            "nor place nor time", source, kind, error,
        )  # fmt: skip
        return None
    return exif


def picture_about(path: Path) -> dict[str, Any] | None:
    """What `write_picture` noted in a file; None where it did not write it."""
    try:
        with Image.open(path) as image:
            about = json.loads(image.getexif().get(_ABOUT, ""))
    except (*_BAD_EXIF, Image.DecompressionBombError):
        return None
    return about if isinstance(about, dict) else None
