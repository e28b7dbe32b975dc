"""Finding the same image again: exactly, or re-encoded."""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

# Measured on the 1344 images of UC Merced 00-63: re-encoding as JPEG of quality 75 or 40 moves at most 6 of the 64
# bits; two different images are never nearer than 10 (two runways).
NEAR = 6
# Standard deviation in grey levels below which a picture (open water, a filled tile) has too little structure
# for its perceptual hash to mean anything.
MIN_CONTRAST = 1.0

_SIDE = 32
_KEPT = 8


@dataclass(frozen=True)
class Fingerprint:
    """What tells an image from others.

    Attributes:
        exact: Hexadecimal SHA-256 of size and pixels.
        perceptual: 64 bits, or None for an image that is almost uniform.
    """

    exact: str
    perceptual: int | None


def fingerprint(image: np.ndarray) -> Fingerprint:
    """Both hashes of uint8 (H, W, 3)."""
    return Fingerprint(exact_hash(image), perceptual_hash(image))


def exact_hash(image: np.ndarray) -> str:
    """Hexadecimal SHA-256 of the size and pixels of uint8 (H, W, 3); independent of the file format."""
    digest = hashlib.sha256(f"{image.shape}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def perceptual_hash(image: np.ndarray) -> int | None:
    """DCT hash ("pHash") of uint8 (H, W, 3): which of the 8 x 8 lowest frequencies lie above their median.

    Returns:
        64 bits, the lowest frequency in the highest bit; None where the image is almost uniform.
    """
    grey = Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(grey, dtype=np.float64)
    if pixels.std() < MIN_CONTRAST:
        return None
    position, frequency = np.arange(_SIDE), np.arange(_KEPT)[:, None]
    basis = np.cos(np.pi * (2 * position + 1) * frequency / (2 * _SIDE))  # (8, 32), DCT-II rows
    spectrum = (basis @ pixels @ basis.T).ravel()
    bits = spectrum > np.median(spectrum[1:])  # the mean brightness must not take part in its own threshold
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def are_duplicates(a: Fingerprint, b: Fingerprint) -> bool:
    """Whether both are the same image, exactly or but for its encoding."""
    if a.exact == b.exact:
        return True
    if a.perceptual is None or b.perceptual is None:
        return False
    return (a.perceptual ^ b.perceptual).bit_count() <= NEAR


def duplicate_pairs(first: list[Fingerprint], second: list[Fingerprint]) -> list[tuple[int, int]]:
    """Index pairs (i, j) for which first[i] and second[j] are duplicates, sorted; n x m in bounded memory."""
    places: dict[str, list[int]] = {}
    for j, other in enumerate(second):
        places.setdefault(other.exact, []).append(j)
    pairs = {(i, j) for i, one in enumerate(first) for j in places.get(one.exact, ())}

    usable = [j for j, other in enumerate(second) if other.perceptual is not None]
    columns = np.array([second[j].perceptual for j in usable], dtype=np.uint64)
    for i, one in enumerate(first):
        if one.perceptual is not None:
            near = np.bitwise_count(columns ^ np.uint64(one.perceptual)) <= NEAR
            pairs.update((i, usable[k]) for k in np.flatnonzero(near))
    return sorted(pairs)
