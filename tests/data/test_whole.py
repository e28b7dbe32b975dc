"""Whole PNG and JPEG files are told from those whose header promises more."""

import io
import struct
import zlib

import numpy as np
import pytest
from builders import claim_rows, picture, save, write_png16
from PIL import Image

from ttrd3.data.whole import png_bytes, require_whole
from ttrd3.errors import DataError


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((3, 2, 8, 2, 0), 2 * (1 + 9)),
        ((9, 5, 1, 0, 0), 5 * (1 + 2)),
        ((2, 2, 16, 6, 0), 2 * (1 + 16)),
        ((1, 1, 8, 2, 1), 1 + 3),  # the first pass alone
        # 8 x 8 of 3 bytes: passes of 1 x 1, 1 x 1, 2 x 1, 2 x 2, 4 x 2, 4 x 4, 8 x 4
        ((8, 8, 8, 2, 1), 4 + 4 + 7 + 2 * 7 + 2 * 13 + 4 * 13 + 4 * 25),
    ],
)
def test_bytes_of_a_png(size, expected):
    assert png_bytes(*size) == expected


def interlaced(path, rows: int):
    """An interlaced PNG of 8 x 8 that claims `rows`."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    data = zlib.compress(bytes(png_bytes(8, 8, 8, 2, 1)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, rows, 8, 2, 0, 0, 1))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def test_whole_files(tmp_path):
    image = picture(0, 70, 50)
    for name, options in {
        "a.png": {}, "stored.png": {"compress_level": 0}, "a.jpg": {}, "progressive.jpg": {"progressive": True},
        "small.jpg": {"quality": 1}, "a.webp": {}, "a.tif": {},
    }.items():  # fmt: skip
        require_whole(save(tmp_path / name, image, **options))
    for mode in ("1", "L", "LA", "P", "RGBA"):
        Image.fromarray(image).convert(mode).save(tmp_path / "mode.png")
        require_whole(tmp_path / "mode.png")
    require_whole(save(tmp_path / "grey.jpg", image[:, :, 0]))
    require_whole(write_png16(tmp_path / "deep.png", image.astype(np.uint16)))
    require_whole(interlaced(tmp_path / "interlaced.png", 8))


@pytest.mark.parametrize("rows", [71, 900])
def test_files_that_promise_more(tmp_path, rows):
    claim_rows(save(tmp_path / "a.png", picture(0, 70, 50)), rows)
    jpeg = bytearray(save(tmp_path / "a.jpg", picture(0, 64, 64)).read_bytes())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 7] = rows.to_bytes(2, "big")
    (tmp_path / "a.jpg").write_bytes(jpeg)
    interlaced(tmp_path / "b.png", rows)
    for name in ("a.png", "b.png", "a.jpg"):
        with pytest.raises(DataError, match=f"{name}: its header promises more rows than the file holds"):
            require_whole(tmp_path / name)


def test_harmless_remarks_of_a_jpeg_are_no_reason(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(picture(0, 64, 64)).save(buffer, "JPEG")
    content = buffer.getvalue()
    (tmp_path / "a.jpg").write_bytes(content[:-2] + b"\0\0\0" + content[-2:])  # extraneous bytes before the end
    require_whole(tmp_path / "a.jpg")
