"""Reading and writing 8-bit RGB images; everything else is refused with the way out, never altered silently."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ttrd3.errors import DataError
from ttrd3.files import replacing

Reader = Callable[[Path], np.ndarray]
"""Gives an image file's uint8 (H, W, 3): `read_rgb`, or `CachedImages` of pixels.py."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp"})

_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP")
_TIFF_SAMPLES_PER_PIXEL = 277
_WORDS = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with an alpha channel",
    "P": "palette",
    "PA": "palette with an alpha channel",
    "RGB": "RGB",
    "RGBA": "RGB with an alpha channel (RGBA)",
    "I": "32-bit integer",
    "F": "floating point",
    "I;16": "grey",
    "I;16B": "grey",
    "I;16L": "grey",
}
# What Pillow raises while it decodes damaged files: mostly OSError, the others from single decoders and parsers.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError)


def read_rgb(path: Path, *, convert: bool = False) -> np.ndarray:
    """Read a PNG, JPEG, TIFF (first page) or WebP file.

    Args:
        path: The image file.
        convert: Turn black and white, grey, palette and fully opaque RGBA images into RGB, without loss. Images whose
            conversion would lose something (16 bits, transparency, CMYK) are refused all the same.

    Returns:
        uint8 (H, W, 3).

    Raises:
        DataError: Missing, empty, truncated, unreadable, too large, or not 8-bit RGB; names the file, what was found
            and what to do.
    """
    with _opened(path) as image:
        found = _unusable(image)
        if found is None:
            return np.asarray(image.convert("RGB"))
        if convert and _convertible(image):
            return _lossless_rgb(path, image)
    if _convertible(image):
        way_out = "Convert it without loss by `ttrd3 prepare --convert`"
    elif "16-bit" in found or image.mode in ("I", "F"):
        way_out = "Scale its values to 0..255 yourself, with one range for all images, and save 8-bit RGB PNG"
    else:
        way_out = "Save it as 8-bit RGB PNG"
    raise DataError(f"{path}: found {found}, expected 8-bit RGB. {way_out}.")


def read_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels from the file's header alone.

    Raises:
        DataError: Missing, empty, too large, or not an image.
    """
    with _opened(path) as image:
        return image.size


def read_mask(path: Path) -> np.ndarray:
    """Read a mask that `ttrd3 prepare` wrote: bool (H, W), true where there is data.

    Raises:
        DataError: Missing, damaged, or not 8-bit grey of 0 and 255 alone; names the file.
    """
    with _opened(path) as image:
        found = np.asarray(image)
        if image.mode != "L" or not np.isin(found, (0, 255)).all():
            raise DataError(
                f"{path}: found {_WORDS.get(image.mode, image.mode)}, expected a mask, 8-bit grey of 0 (no data) and "
                "255. Prepare the data again with --overwrite."
            )
        return found == 255


def write_png(path: Path, array: np.ndarray) -> None:
    """Write uint8 (H, W, 3) as an RGB PNG, or (H, W) as a grey one, whole or not at all.

    Raises:
        UserError: The folder cannot be written or is full.
    """
    with replacing(path) as temporary:
        Image.fromarray(array).save(temporary, "PNG")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The opened, not yet decoded image; whatever goes wrong inside the block is told as DataError."""
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty. Fetch it again, or leave it out (`ttrd3 prepare --skip-bad`).")
        with warnings.catch_warnings():
            # A large scene is what this field works with; Pillow's error at 179 million pixels still holds.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=_FORMATS)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Check the path, or prepare the data again.") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path}: not an image that can be read; expected 8-bit RGB as PNG, JPEG, TIFF or WebP. "
            "Convert it, or leave it out (`ttrd3 prepare --skip-bad`)."
        ) from None
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path}: too large to be read at once ({error}). "
            "Cut it into smaller images, or leave it out (`ttrd3 prepare --skip-bad`). TIFFs of any size are read by "
            "windows by `ttrd3 prepare --scale none`."
        ) from None
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    with image:
        try:
            yield image
        except DataError:
            raise
        except _DAMAGED as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or error
    return DataError(
        f"{path}: truncated, damaged or not allowed to be read ({reason}); expected a whole image. "
        "Fetch it again, or leave it out (`ttrd3 prepare --skip-bad`); make a prepared tile again with --overwrite."
    )


def _unusable(image: Image.Image) -> str | None:
    """What keeps the image from being used as it is, in words; None for plain 8-bit RGB."""
    # Pillow reads 16-bit RGB as mode "RGB" and drops the low byte in silence: only the decoder's raw mode tells.
    if ";16" in image.mode or any(";16" in str(tile.args) for tile in image.tile):
        return f"16-bit {_WORDS.get(image.mode, image.mode)}"
    if image.mode != "RGB":
        return _WORDS.get(image.mode, image.mode)
    if image.format == "TIFF" and (bands := image.tag_v2.get(_TIFF_SAMPLES_PER_PIXEL, 3)) != 3:
        return f"{bands} bands"
    if image.has_transparency_data:
        return "RGB with a transparent colour"
    return f"an animation of {image.n_frames} frames" if _animated(image) else None


def _animated(image: Image.Image) -> bool:
    # Not MPO, whose first image is the photograph and the others are previews; TIFF pages may be overviews.
    return image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1


def _convertible(image: Image.Image) -> bool:
    """Whether the kind of image, not yet its content, can become RGB without loss."""
    eight_bit = not any(";16" in str(tile.args) for tile in image.tile)
    mode_fits = image.mode in ("1", "L", "LA", "P", "PA", "RGBA") or image.has_transparency_data
    return eight_bit and mode_fits and not _animated(image)


def _lossless_rgb(path: Path, image: Image.Image) -> np.ndarray:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema()[0] < 255:
            raise DataError(
                f"{path}: found transparent pixels, expected 8-bit RGB. "
                "Fill them with a colour of your choice and save 8-bit RGB PNG."
            )
        image = rgba
    return np.asarray(image.convert("RGB"))
