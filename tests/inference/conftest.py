"""Tiny untrained weights, images and scenes, made once."""

import numpy as np
import pytest
import rasterio
import torch
from data.builders import picture
from helpers import TINY

from ttrd3 import Upscaler
from ttrd3.__main__ import main
from ttrd3.engine import build, checkpoint
from ttrd3.engine.options import load_options
from ttrd3.environment import ROOT

QUICK = str(ROOT / "options" / "quickstart.yml")
SAMPLE = ROOT / "samples" / "OSBS_029.tif"


@pytest.fixture(scope="session")
def make_weights(tmp_path_factory):
    """`make_weights(setting, ...)` -> a file of a tiny untrained model whose outputs are far from zero."""

    def make(*settings: str):
        options = load_options([QUICK, *TINY, *settings])
        torch.manual_seed(3)
        model = build.build_model(options.model, options.diffusion)
        with torch.no_grad():
            for parameter in model.unet.decoder.head.parameters():
                parameter.mul_(5)
        path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
        checkpoint.save_state(path, model.state_dict(), options, step=0)
        return path

    return make


@pytest.fixture(scope="session")
def weights(make_weights):
    return make_weights()


@pytest.fixture
def upscaler(weights):
    """`upscaler(name=value, ...)` -> an Upscaler of the tiny weights on the CPU."""

    def make(**settings):
        return Upscaler.from_file(weights, "cpu", **settings)

    return make


@pytest.fixture
def upscale(weights, tmp_path, capsys):
    """`upscale(word, ...)` runs the command into tmp_path/out and returns (exit code, stderr)."""

    def run(*words, out=None):
        code = main(["upscale", *map(str, words), "--out", str(out or tmp_path / "out"), "--weights", str(weights)])
        return code, capsys.readouterr().err

    return run


@pytest.fixture(scope="session")
def lr():
    """uint8 (24, 40, 3)."""
    return picture(1, 24, 40)


@pytest.fixture
def scene(tmp_path):
    """`scene(array (bands, h, w), name, **profile)` -> a GeoTIFF in UTM 33N with pixels of 10 m."""

    def make(pixels: np.ndarray, name: str = "scene.tif", then=None, **profile):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {
            "driver": "GTiff", "count": pixels.shape[0], "height": pixels.shape[1], "width": pixels.shape[2],
            "dtype": pixels.dtype.name, "crs": "EPSG:32633",
            "transform": rasterio.Affine(10, 0, 500000.5, 0, -10, 5400000.25),
        }  # fmt: skip
        with rasterio.open(path, "w", **(options | profile)) as out:
            out.write(pixels)
            if then is not None:
                then(out)
        return path

    return make


def bands_of(path) -> np.ndarray:
    """(bands, h, w)."""
    with rasterio.open(path) as found:
        return found.read()
