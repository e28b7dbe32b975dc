"""What the Python API takes as an image: arrays, PIL images, tensors and paths -> pixels, and the result's way back."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ttrd3.errors import DataError
from ttrd3.inference import pictures, raster
from ttrd3.inference.assemble import Assembler
from ttrd3.inference.ranges import as_bytes

ImageLike = np.ndarray | Image.Image | Tensor | str | PathLike


def to_pixels(image: ImageLike, name: str) -> tuple[np.ndarray, Callable[[Assembler], Any]]:
    """(h, w, 3) uint8 or float32, and what makes the same kind of an `Assembler`.

    Raises:
        DataError: No image, or one that cannot be used; `name` tells which.
    """
    if isinstance(image, str | PathLike):
        return _from_file(Path(image)), lambda out: Image.fromarray(out.whole(as_bytes))
    if isinstance(image, Image.Image):
        if image.mode != "RGB":
            raise DataError(f"{name}: found a PIL image of mode {image.mode}, expected RGB. Use image.convert('RGB').")
        return np.asarray(image), lambda out: Image.fromarray(out.whole(as_bytes))
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point() or not image.numel():
            raise DataError(f"{name}: found {image.dtype} {tuple(image.shape)}, expected float (3, h, w) in 0..1.")
        pixels = image.detach().permute(1, 2, 0).float().cpu().numpy()
        return _finite(pixels, name), lambda out: torch.from_numpy(out.whole()).permute(2, 0, 1).to(image)
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(f"{name}: found {found}, expected an array (h, w, 3), a PIL image, a tensor or a path.")
    if image.dtype == np.uint8:
        return image, lambda out: out.whole(as_bytes)
    if not np.issubdtype(image.dtype, np.floating):
        raise DataError(f"{name}: found {image.dtype}, expected uint8, or float in 0..1: divide by the white value.")
    return _finite(image.astype(np.float32), name), lambda out: out.whole().astype(image.dtype)


def _finite(pixels: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(pixels).all():
        raise DataError(f"{name}: holds values that are no finite numbers. Replace them.")
    return np.ascontiguousarray(pixels)


def _from_file(path: Path) -> np.ndarray:
    if path.suffix.lower() in raster.SUFFIXES:
        with raster.open_raster(path) as dataset:
            scene = raster.RasterScene(path, dataset, None, None)
            return as_bytes(scene.read(0, 0, scene.height, scene.width))
    scene = pictures.open_picture(path)
    return scene.read(0, 0, scene.height, scene.width)
