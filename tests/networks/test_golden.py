"""The released behaviour, number by number; the whole pipeline is in released/test_import.py."""

import pytest
import torch
from golden.rules import noise, released_state
from helpers import relative_error
from networks.released import VARIANTS, released_model


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request):
    return request.param


def textures():
    shapes = {1: (1, 64, 64, 64), 2: (1, 128, 32, 32), 3: (1, 256, 16, 16)}
    return [0.1 * noise(f"texture_lv{level}", shape) for level, shape in shapes.items()]


def test_texture_net(golden):
    g = golden("reference_net")
    assert (released_state("refnet")["STTG.k_selector.k_logits"].argmax(1) + 1).tolist() == g["k"].tolist()
    model = released_model()
    assert list(model.transfer.matches) == g["k"].tolist()
    with torch.inference_mode():
        features = model.encoder(g["lrsr"])
        found = model.encode(g["lrsr"], g["ref"], g["refsr"])
    for level in (1, 2, 3):
        assert relative_error(features[level - 1][:, ::8], g[f"features_lv{level}_c8"]) < 1e-5
        assert relative_error(found[level - 1][:, ::8], g[f"texture_lv{level}_c8"]) < 1e-5


def test_unet_outputs(golden, variant):
    g = golden(f"unet_{VARIANTS[variant]}")
    model = released_model(variant)
    for time in (0, 999):
        with torch.inference_mode():
            residual, eps = model.denoise(g["x_t"], torch.tensor([time]), g["x_in"], textures())
        assert relative_error(residual, g[f"out_res_t{time}"]) < 1e-4
        assert relative_error(eps, g[f"out_noise_t{time}"]) < 1e-4
