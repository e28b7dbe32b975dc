"""Real files for the tests of the data: pictures, raw and prepared folders, and formats that Pillow cannot write."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from ttrd3.data.plan import PrepareOptions
from ttrd3.data.prepare import prepare

SHARES = {"val": 0.0, "test": 0.0, "ref": 0.0}
SAMPLE = Path(__file__).resolve().parents[2] / "samples"


def picture(seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    """uint8 (H, W, 3): smooth shapes with detail, as a photograph has, another for each seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    return np.clip(smooth + rng.integers(-20, 21, (height, width, 3)), 0, 255).astype(np.uint8)


def save(path: Path, array: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def class_folders(root: Path, counts: dict[str, int], side: int = 32, suffix: str = "png") -> Path:
    """ROOT/CLASS/CLASSnn.SUFFIX, every picture another one."""
    seed = 0
    for name, count in counts.items():
        for number in range(count):
            save(root / name / f"{name}{number:02d}.{suffix}", picture(seed, side, side))
            seed += 1
    return root


def prepared(tmp_path: Path, counts: dict[str, int], lists: dict[str, list[str]] | None = None, side: int = 32) -> Path:
    """A prepared folder of class folders with one tile per image."""
    raw, out = class_folders(tmp_path / "raw", counts, side), tmp_path / "prepared"
    prepare(raw, out, PrepareOptions(side, side, SHARES, lists or {}), workers=1)
    return out


def paired_folder(tmp_path: Path, names: str = "abc", side: int = 32) -> Path:
    """Prepared paired data, all in train."""
    for number, name in enumerate(names):
        save(tmp_path / "raw" / "hr" / f"{name}.png", picture(number, side, side))
        save(tmp_path / "raw" / "ref" / f"{name}.jpg", picture(100 + number, side, side))
    prepare(tmp_path / "raw", tmp_path / "prepared", PrepareOptions(side, side, SHARES), workers=1)
    return tmp_path / "prepared"


def authors_folder(root: Path, names: dict[str, list[str]], side: int = 32) -> Path:
    """The authors' layout: split -> names."""
    from ttrd3.data.degrade import lr_from_hr, up_from_lr

    seed = 0
    for split, listed in names.items():
        for name in listed:
            hr = picture(seed, side, side)
            lr = lr_from_hr(hr)
            save(root / split / f"hr_{side}" / f"{name}.png", hr)
            save(root / split / f"lr_{side // 4}" / f"{name}.png", lr)
            save(root / split / f"sr_{side // 4}_{side}" / f"{name}.png", up_from_lr(lr))
            seed += 1
    return root


def write_png16(path: Path, array: np.ndarray) -> Path:
    """16-bit RGB PNG of uint16 (H, W, 3)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def write_tiff(path: Path, array: np.ndarray) -> Path:
    """Uncompressed little-endian TIFF of (H, W, bands), 8 or 16 bits, photometric RGB."""
    height, width, bands = array.shape
    bits = array.dtype.itemsize * 8
    entries = 11
    after = 8 + 2 + 12 * entries + 4
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, bands, after),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, after + 2 * bands),
        (277, 3, 1, bands),
        (278, 4, 1, height),
        (279, 4, 1, array.nbytes),
        (284, 3, 1, 1),
        (338, 3, 1, 0) if bands > 3 else (339, 3, 1, 1),  # a fourth band of no stated meaning, as near infrared
    ]
    directory = struct.pack("<H", entries) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + struct.pack("<I", 0)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + struct.pack(f"<{bands}H", *[bits] * bands))
    with path.open("ab") as file:
        file.write(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return path


def tree(root: Path) -> dict[str, bytes]:
    """Relative name -> content of every file under `root`."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def claim_rows(path: Path, rows: int) -> Path:
    """Let a PNG's header promise `rows`, checksum and all."""
    content = bytearray(path.read_bytes())
    content[20:24] = rows.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    return path
