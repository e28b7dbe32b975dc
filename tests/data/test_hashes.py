import io
import math

import numpy as np
import pytest
from builders import SAMPLE, picture
from PIL import Image

from ttrd3.data.hashes import (
    NEAR,
    Fingerprint,
    are_duplicates,
    duplicate_pairs,
    exact_hash,
    fingerprint,
    perceptual_hash,
)
from ttrd3.data.images import read_rgb


@pytest.fixture(scope="module")
def tiles():
    return [read_rgb(path) for path in sorted((SAMPLE / "neon").glob("*/hr/*/*.png"))]


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def plain_hash(image: np.ndarray) -> int:
    """The definition, term by term."""
    grey = Image.fromarray(image).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    pixels = np.asarray(grey, dtype=float)
    cosine = [[math.cos(math.pi * (2 * x + 1) * u / 64) for x in range(32)] for u in range(8)]
    terms = [
        sum(pixels[y, x] * cosine[v][y] * cosine[u][x] for y in range(32) for x in range(32))
        for v in range(8)
        for u in range(8)
    ]
    middle = sorted(terms[1:])[31]
    return int("".join("1" if term > middle else "0" for term in terms), 2)


def test_perceptual_hash_is_the_dct_hash(tiles):
    for image in tiles[:2]:
        assert perceptual_hash(image) == plain_hash(image)


@pytest.mark.parametrize("quality", [90, 75, 40])
def test_reencoded_images_are_duplicates(tiles, quality):
    for image in tiles:
        again = jpeg(image, quality)
        assert exact_hash(again) != exact_hash(image)
        assert are_duplicates(fingerprint(image), fingerprint(again))


def test_different_images_are_not(tiles):
    prints = [fingerprint(image) for image in tiles] + [fingerprint(picture(seed)) for seed in range(60)]
    assert not any(are_duplicates(a, b) for i, a in enumerate(prints) for b in prints[:i])


def test_uniform_images_are_told_apart_by_their_pixels_alone():
    blue, other = (np.full((32, 32, 3), value, np.uint8) for value in (90, 91))
    assert perceptual_hash(blue) is None
    assert are_duplicates(fingerprint(blue), fingerprint(blue.copy()))
    assert not are_duplicates(fingerprint(blue), fingerprint(other))


def test_exact_hash_sees_size_and_every_pixel():
    image = picture(0)
    changed = image.copy()
    changed[31, 31, 2] ^= 1
    hashes = {exact_hash(array) for array in (image, changed, image.reshape(16, 64, 3), image[:, ::-1])}
    assert len(hashes) == 4
    assert exact_hash(image) == exact_hash(np.asfortranarray(image))


def test_threshold_is_where_duplicates_end():
    a = Fingerprint("a", 0)
    assert are_duplicates(a, Fingerprint("b", 2**NEAR - 1))
    assert not are_duplicates(a, Fingerprint("b", 2 ** (NEAR + 1) - 1))


def test_duplicate_pairs_equal_all_comparisons():
    rng = np.random.default_rng(0)
    bases = [int(value) for value in rng.integers(0, 2**63, 5)]

    def draw(count: int) -> list[Fingerprint]:
        prints = []
        for _ in range(count):
            flips = sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, 12), replace=False))
            perceptual = None if rng.random() < 0.2 else bases[rng.integers(5)] ^ flips
            prints.append(Fingerprint(str(rng.integers(10)), perceptual))
        return prints

    first, second = draw(40), draw(30)
    expected = [(i, j) for i, a in enumerate(first) for j, b in enumerate(second) if are_duplicates(a, b)]
    assert 20 < len(expected) < 1200
    assert duplicate_pairs(first, second) == expected
    assert duplicate_pairs(first, []) == []
