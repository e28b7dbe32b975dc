"""Pictures as text: exact where there is room, told where not."""

import base64
import io

import numpy as np
import pytest
from data.builders import picture
from PIL import Image

from ttrd3.errors import UserError
from ttrd3.reports.packing import LEVELS, pack


def items():
    for number in range(3):
        for place, kind in enumerate(("lr", "hr", "sr", "reference")):
            yield number, kind, kind, picture(10 * number + place, 64, 64)
        yield number, "use", "use", np.full((64, 64), number, np.uint8) + np.arange(64, dtype=np.uint8)


def decode(uri: str) -> tuple[str, np.ndarray]:
    kind, text = uri.split(";base64,")
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_with_room_every_pixel_is_kept():
    packed = pack(items, 10_000_000)
    assert packed.level is LEVELS[0]
    assert packed.deviation == {}
    assert packed.size == sum(map(len, packed.data.values()))
    for number, name, _, array in items():
        kind, found = decode(packed.data[number, name])
        assert kind == "data:image/webp"
        np.testing.assert_array_equal(found if array.ndim == 3 else found[..., 0], array)
    assert packed.level.text({"lr", "hr"}) == "LR, HR: lossless WebP"


def test_with_less_room_references_give_way_first_and_lr_never():
    exact = pack(items, 10_000_000).size
    second = pack(items, exact - 1)
    assert second.level is LEVELS[1]
    assert second.deviation.keys() == {"reference"}
    assert 0 < second.deviation["reference"] < 10
    for number, name, _, array in items():
        kind, found = decode(second.data[number, name])
        assert kind == ("data:image/jpeg" if name == "reference" else "data:image/webp")
        if name in ("lr", "hr", "sr"):
            np.testing.assert_array_equal(found, array)
    text = second.level.text({"lr", "hr", "sr", "reference"})
    assert text == "LR, HR, SR: lossless WebP; references: JPEG 4:4:4 of quality 90"
    small = pack(items, exact // 2)
    assert small.size <= exact // 2
    assert small.deviation.keys() == {"hr", "sr", "reference", "use"}
    for number, name, _, array in items():
        if name == "lr":
            np.testing.assert_array_equal(decode(small.data[number, name])[1], array)


def test_the_deviation_is_what_was_lost():
    packed = pack(items, pack(items, 10_000_000).size // 2)
    lost = [
        np.abs(decode(packed.data[number, name])[1].astype(int) - array).mean()
        for number, name, kind, array in items()
        if kind == "hr"
    ]
    assert packed.deviation["hr"] == pytest.approx(np.mean(lost))


def test_no_room_at_all():
    with pytest.raises(UserError, match=r"do not fit 0.0 MB even as JPEG of quality 60. Show fewer images"):
        pack(items, 1000)
