"""Pictures as text inside a page, as exact as the room allows."""

import base64
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ttrd3.errors import UserError

logger = logging.getLogger(__name__)

KINDS = {"lr": "LR", "hr": "HR", "sr": "SR", "reference": "references", "use": "maps of reference use"}


@dataclass(frozen=True)
class Level:
    """How pictures are stored: these kinds without loss, the others as JPEG of this quality (no chroma subsampling)."""

    exact: frozenset[str]
    quality: int

    def text(self, present: set[str]) -> str:
        """ "LR, HR, SR: lossless WebP; references: JPEG, quality 90"."""
        kinds = [kind for kind in KINDS if kind in present]
        exact = ", ".join(KINDS[kind] for kind in kinds if kind in self.exact)
        lossy = ", ".join(KINDS[kind] for kind in kinds if kind not in self.exact)
        return f"{exact}: lossless WebP" + (f"; {lossy}: JPEG 4:4:4 of quality {self.quality}" if lossy else "")


# From all that is there to what still shows a scene. LR stays exact, because bicubic is computed from it.
LEVELS = [
    Level(frozenset(KINDS), 100),
    Level(frozenset(KINDS) - {"reference"}, 90),
    Level(frozenset(KINDS) - {"reference", "use"}, 80),
    *(Level(frozenset({"lr"}), quality) for quality in (95, 90, 80, 70, 60)),
]

Item = tuple[int, str, str, np.ndarray]  # number of the image, name of the picture, kind, uint8 (H, W[, 3])


@dataclass
class Packed:
    """Stored pictures.

    Attributes:
        level: How they are stored.
        data: {(image number, name): data URI}.
        size: Characters of all of it.
        deviation: {kind: mean absolute difference to the original in grey levels} of what is not exact.
    """

    level: Level
    data: dict[tuple[int, str], str] = field(default_factory=dict)
    size: int = 0
    deviation: dict[str, float] = field(default_factory=dict)


def pack(items: Callable[[], Iterator[Item]], budget: int) -> Packed:
    """Store pictures at the most exact level whose text stays within `budget` characters.

    Args:
        items: Called once for each level that is tried; gives all pictures.
        budget: Characters of data URIs.

    Raises:
        UserError: Too much even for the lowest level.
    """
    exact: dict[tuple[int, str], str] = {}  # what a former level stored without loss need not be stored again
    for level in LEVELS:
        packed = _packed(items(), level, budget, exact)
        if packed is not None:
            return packed
        logger.info("pictures do not fit %.1f MB as %s; trying less", budget / 1e6, level.text(set(KINDS)))
    raise UserError(
        f"--megabytes: the pictures do not fit {budget / 1e6:.1f} MB even as JPEG of quality {LEVELS[-1].quality}. "
        "Show fewer images (--images N), or allow a larger file."
    )


def _packed(items: Iterator[Item], level: Level, budget: int, known: dict[tuple[int, str], str]) -> Packed | None:
    packed = Packed(level)
    deviations: dict[str, list[float]] = {}
    for number, name, kind, array in items:
        key = (number, name)
        if kind not in level.exact:
            content = _jpeg(array, level.quality)
            decoded = np.asarray(Image.open(io.BytesIO(content)), dtype=np.int16)
            deviations.setdefault(kind, []).append(float(np.abs(decoded - array).mean()))
            text = _uri("jpeg", content)
        else:
            text = known[key] if key in known else known.setdefault(key, _uri("webp", _webp(array)))
        packed.data[key] = text
        packed.size += len(text)
        if packed.size > budget:
            return None
    packed.deviation = {kind: float(np.mean(found)) for kind, found in deviations.items()}
    return packed


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _webp(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    # Higher settings take up to thirty times as long and save two percent.
    Image.fromarray(array).convert("RGB").save(buffer, "WEBP", lossless=True, quality=80, method=4)
    return buffer.getvalue()


def _jpeg(array: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
    return buffer.getvalue()
