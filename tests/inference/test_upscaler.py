"""The Python API: what goes in and comes out, tiles against the whole, the knobs against plain versions."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from data.builders import picture, save
from helpers import relative_error
from PIL import Image

import ttrd3
from ttrd3 import Upscaler
from ttrd3.data.degrade import degrade, lr_from_hr, up_from_lr
from ttrd3.environment import ROOT
from ttrd3.errors import CheckpointError, DataError, DeviceError, UserError, is_out_of_memory
from ttrd3.inference.noise import noise_field
from ttrd3.inference.pictures import ArrayScene
from ttrd3.inference.references import NoReference
from ttrd3.inference.store import MemoryTiles


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.tensor(image).permute(2, 0, 1)[None].float() / 255


def plain(upscaler, lr, reference=None, *, draw=0, seed=10):
    """(1, 3, H, W) by the restorer alone: no tiles, no blending."""
    up = as_tensor(up_from_lr(lr))
    given = (None, None) if reference is None else (as_tensor(reference), as_tensor(degrade(reference)))
    textures = upscaler.restorer.textures(up, *given, None)
    noise = torch.from_numpy(noise_field(seed, draw, 0, 0, *up.shape[2:]))[None]
    return upscaler.restorer.sampled(up, textures, lambda: noise)


def test_importing_ttrd3_does_not_import_torch():
    code = "import sys, ttrd3; assert 'torch' not in sys.modules; ttrd3.Upscaler; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT / "codes")})
    with pytest.raises(AttributeError, match="has no attribute 'Downscaler'"):
        _ = ttrd3.Downscaler


def test_one_tile_is_what_the_restorer_gives(upscaler):
    lr, reference = picture(0, 32, 32), picture(9, 64, 96)
    one = upscaler()
    expected = plain(one, lr, reference).clamp(0, 1)[0].permute(1, 2, 0).numpy() * 255
    found = one.upscale(lr, reference)
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 0.51  # rounded to 8 bits
    assert (found != one.upscale(lr)).mean() > 0.1  # the reference counts


def test_every_kind_of_image_gives_the_same(upscaler, lr, tmp_path):
    one = upscaler()
    expected = one.upscale(lr)
    assert expected.shape == (96, 160, 3)
    path = save(tmp_path / "lr.png", lr)
    for given in (path, str(path), Image.fromarray(lr)):
        found = one.upscale(given)
        assert isinstance(found, Image.Image)
        np.testing.assert_array_equal(np.asarray(found), expected)
    floats = lr.astype(np.float64) / 255
    found = one.upscale(floats)  # bicubic in float: not rounded to 8 bits between its passes
    assert found.dtype == np.float64
    assert np.abs(found * 255 - expected).mean() < 0.6
    tensor = torch.from_numpy(floats).permute(2, 0, 1).half()
    batch = one.upscale(torch.stack([tensor, tensor.flip(1)]))
    assert batch.dtype == torch.float16
    assert batch.shape == (2, 3, 96, 160)
    assert torch.equal(batch[0], one.upscale(tensor))
    assert np.abs(batch[0].permute(1, 2, 0).float().numpy() - found).max() < 3e-3
    reference = picture(4, 64, 64)
    expected = one.upscale(lr, reference)
    for given in (save(tmp_path / "ref.webp", reference, lossless=True), Image.fromarray(reference)):
        np.testing.assert_array_equal(one.upscale(lr, given), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 90), (75, 2), (3, 3), (17, 16), (64, 65)])
def test_any_size(upscaler, shape):
    lr = picture(0, 96, 96)[: shape[0], : shape[1]]
    found = upscaler(tile=64, overlap=16).upscale(lr)
    assert found.shape == (4 * shape[0], 4 * shape[1], 3)
    assert np.abs(lr_from_hr(found).astype(int) - lr).mean() < 25  # the same picture, give or take an untrained model


TOLERANCE_MEAN, TOLERANCE_MAX = 2.0, 20  # 8-bit levels; statistics that the networks take over a tile differ


def test_tiles_and_the_whole_agree_and_borders_do_not_show(upscaler):
    """The tolerance is that of this untrained model; README tells that of a trained one.

    The gradient across the middles of the ramps is that of the same places in the whole, as it is everywhere else.
    """
    lr = picture(3, 52, 52)
    whole = upscaler(tile=208).upscale(lr).astype(float)
    tiler = upscaler(tile=96, overlap=32)
    tiled = tiler.upscale(lr).astype(float)
    difference = np.abs(tiled - whole)
    assert 0 < difference.mean() < TOLERANCE_MEAN
    assert difference.max() < TOLERANCE_MAX
    grid = tiler.tiler(ArrayScene(lr), NoReference(), 1, 96, 1).grid
    assert len(grid) == 9
    starts, size = grid.rows.starts, grid.rows.size
    for axis in (0, 1):
        at, usual = (np.abs(np.diff(image, axis=axis)).mean((1 - axis, 2)) for image in (tiled, whole))
        ratio = at / usual
        middles = [2 * (a + size + b) for a, b in itertools.pairwise(starts)]
        bands = np.concatenate([ratio[middle - 17 : middle + 17] for middle in middles])
        assert abs(bands.mean() - 1) < 0.01
        assert max(abs(ratio[middle - 1] - 1) for middle in middles) < 0.03
        assert abs(ratio.mean() - 1) < 0.01


def test_without_one_noise_field_borders_would_show(upscaler, monkeypatch):
    """The measure above sees what it is for: tiles with noise of their own average it away where they overlap."""
    lr = picture(3, 52, 52)
    settings = {"tile": 96, "overlap": 32}
    whole = upscaler(tile=208).upscale(lr).astype(float)
    monkeypatch.setattr(
        "ttrd3.inference.tiles.noise_field",
        lambda seed, draw, top, left, *size: noise_field(seed, top * 1000 + left, 0, 0, *size),
    )
    tiled = upscaler(**settings).upscale(lr).astype(float)
    at, usual = (np.abs(np.diff(image, axis=0)).mean((1, 2)) for image in (tiled, whole))
    grid = upscaler(**settings).tiler(ArrayScene(lr), NoReference(), 1, 96, 1).grid
    middle = 2 * (grid.rows.starts[0] + grid.rows.size + grid.rows.starts[1])
    assert (at / usual)[middle - 4 : middle + 4].mean() < 0.97


def test_order_and_batch_do_not_matter(upscaler, lr):
    one = upscaler(tile=64, overlap=16)
    results = []
    for order, batch_size in ((1, 1), (-1, 1), (1, 3), (-1, 64)):
        tiler = one.tiler(ArrayScene(lr), NoReference(), 1, 64, batch_size)
        store = MemoryTiles()
        tiler.run(list(range(len(tiler.grid)))[::order], store.put)
        results.append(np.stack([store.get(number) for number in range(len(tiler.grid))]))
    np.testing.assert_array_equal(results[0], results[1])
    for other in results[2:]:  # a batch may sum in another order
        np.testing.assert_allclose(other, results[0], atol=1e-4)
    np.testing.assert_array_equal(upscaler(tile=64, overlap=16).upscale(lr), one.upscale(lr))
    assert (upscaler(tile=64, overlap=16, seed=11).upscale(lr) != one.upscale(lr)).mean() > 0.1


def test_the_files_own_reference_strength_holds_where_none_is_asked_for(make_weights, lr):
    reference = picture(5, 96, 160)
    asked, own = (
        Upscaler.from_file(make_weights(f"sampling.reference_strength={s}"), "cpu", **settings).upscale(lr, reference)
        for s, settings in ((1, {"strength": 0.5}), (0.5, {}))
    )
    assert np.array_equal(asked, own)


def test_weights_are_told_apart_by_what_is_computed_with_them(make_weights):
    prints = [
        Upscaler.from_file(make_weights(*settings), "cpu").trained.fingerprint
        for settings in ((), ("model.transfer.normalization=released",), ("name=other", "sampling.steps=3"))
    ]
    assert prints[0] == prints[2] != prints[1]


def test_strength(upscaler, lr):
    reference = picture(8, 64, 64)
    zero, half, full = (upscaler(strength=s).upscale(lr, reference).astype(float) for s in (0, 0.5, 1))
    np.testing.assert_array_equal(zero, upscaler().upscale(lr))
    assert 0 < np.abs(half - zero).mean() < np.abs(full - zero).mean()


def test_fidelity(upscaler, make_weights):
    lr = picture(0, 32, 32)
    sampled, faithful = (upscaler(fidelity=f) for f in (0.0, 1.0))
    up = as_tensor(up_from_lr(lr))
    x_in = 2 * up - 1
    noise = torch.from_numpy(noise_field(10, 0, 0, 0, 128, 128))[None]
    restorer = faithful.restorer
    start = x_in + restorer.process.sum_scale**0.5 * noise
    residual, _ = restorer.model.begin(x_in, None, [restorer.process.timesteps - 1])(start, 0)
    expected = ((x_in - residual.clamp(-1, 1)).clamp(-1, 1) + 1) / 2
    ends = [plain(one, lr) for one in (sampled, faithful)]
    assert relative_error(ends[1], expected) < 1e-5
    assert relative_error(ends[0], expected) > 1e-3
    assert relative_error(plain(upscaler(fidelity=0.25), lr), ends[0].lerp(ends[1], 0.25)) < 1e-5
    noise_alone = make_weights("diffusion.objective=pred_noise", "losses=[{type: l1, of: noise}]")
    with pytest.raises(UserError, match=r"fidelity: found 0\.5, but .* predicts noise alone"):
        ttrd3.Upscaler.from_file(noise_alone, "cpu", fidelity=0.5)


def test_samples(upscaler):
    lr = picture(0, 32, 32)
    one = upscaler()
    singles = torch.cat([plain(one, lr, draw=number * 2**20) for number in range(3)]).clamp(0, 1)
    spread = one.upscale_with_spread(lr, samples=3)
    mean, std = (x.permute(1, 2, 0).numpy() * 255 for x in (singles.mean(0), singles.std(0)))
    assert np.abs(spread.mean - mean).max() <= 0.51
    np.testing.assert_allclose(spread.std, std, atol=0.01)
    assert spread.std.mean() > 1
    with pytest.raises(UserError, match="samples: found 1, expected at least 2"):
        one.upscale_with_spread(lr, samples=1)


def test_fresh_noise_of_every_step_is_shared_too(upscaler):
    ancestral = {"eta": 1.0, "steps": 4}
    lr = picture(3, 40, 40)
    whole = upscaler(tile=160, **ancestral).upscale(lr).astype(float)
    tiled = upscaler(tile=96, overlap=32, **ancestral).upscale(lr).astype(float)
    other = upscaler(tile=160, seed=11, **ancestral).upscale(lr)
    assert np.abs(tiled - whole).mean() < 0.15 * np.abs(other - whole).mean()


@pytest.mark.parametrize("given", [False, True])
def test_an_ensemble_is_the_mean_over_all_orientations(upscaler, given):
    lr, reference = picture(4, 24, 40), picture(8, 64, 96) if given else None
    one = upscaler(ensemble=True)
    up, noise = up_from_lr(lr), noise_field(10, 0, 0, 0, 96, 160).transpose(1, 2, 0)

    def oriented(rotations: int, mirrored: bool) -> torch.Tensor:
        def turn(image):
            image = np.rot90(image, rotations)
            return np.ascontiguousarray(image[:, ::-1] if mirrored else image)

        x, start = as_tensor(turn(up)), torch.from_numpy(turn(noise)).permute(2, 0, 1)[None]
        pair = [None] * 2 if reference is None else [as_tensor(i) for i in (turn(reference), degrade(turn(reference)))]
        found = one.restorer.sampled(x, one.restorer.textures(x, *pair, None), lambda: start)
        return torch.rot90(found.flip(3) if mirrored else found, -rotations, (2, 3))

    expected = torch.stack([oriented(*s) for s in itertools.product(range(4), (False, True))]).mean(0)
    expected = expected.clamp(0, 1)[0].permute(1, 2, 0).numpy() * 255
    found = one.upscale(lr, reference)
    assert np.abs(found - expected).max() <= 0.51  # rounded to 8 bits
    assert (found != upscaler().upscale(lr, reference)).mean() > 0.1


def test_tiles_of_an_ensemble_share_references_and_samples(upscaler, lr):
    """Of several tiles and samples each is what it is alone, whatever is kept of their references' features."""
    reference = picture(9, 96, 160)
    settings = {"ensemble": True, "tile": 64, "overlap": 16}
    found, again = (upscaler(**settings, feature_memory=m).upscale_with_spread(lr, reference, 2) for m in (0, 2**28))
    assert np.array_equal(found.mean, again.mean)
    assert found.std.mean() < upscaler(tile=64, overlap=16).upscale_with_spread(lr, reference, 2).std.mean()


def test_consistent(upscaler, lr):
    def error(image: np.ndarray) -> np.ndarray:
        return np.abs(lr_from_hr(image).astype(int) - lr)

    free = upscaler(tile=128).upscale(lr)
    bound = upscaler(tile=128, consistent=True).upscale(lr)
    assert error(free).max() > 4
    assert (error(bound) > 1).mean() < 0.01  # Pillow cuts off between its two passes, where much is saturated
    assert np.median(error(bound)) == 0
    assert upscaler(tile=128, consistent=True).upscale(lr[:1, :1]).shape == (4, 4, 3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision(upscaler, lr, precision):
    found, exact = (upscaler(precision=p).upscale(lr).astype(int) for p in (precision, "float32"))
    assert 0 < np.abs(found - exact).mean() < 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 1001}, "steps: found 1001, expected 1 to 1000"),
        ({"steps": 0}, "steps: found 0"),
        ({"strength": 1.5}, "strength: found 1.5, expected 0 to 1"),
        ({"fidelity": -0.1}, "fidelity: found -0.1"),
        ({"tile": 100 + 1}, "tile: found 101, expected a multiple of 4, at least 64"),
        ({"tile": 32}, "tile: found 32"),
        ({"overlap": 88}, "overlap: found 88, expected a multiple of 4 from 0 to a third of the tile"),
        ({"overlap": 30}, "overlap: found 30"),
        ({"seed": -1}, "seed: found -1"),
        ({"batch_size": 0}, "batch_size: found 0"),
    ],
)
def test_settings_that_cannot_be(upscaler, settings, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        upscaler(**settings)


def test_weights_and_devices_that_cannot_be(weights, tmp_path):
    with pytest.raises(CheckpointError, match="there is no such file"):
        ttrd3.Upscaler.from_file(tmp_path / "none.safetensors")
    with pytest.raises(DeviceError, match="device: found 'gpu'"):
        ttrd3.Upscaler.from_file(weights, "gpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="offers 0 CUDA devices"):
            ttrd3.Upscaler.from_file(weights, "cuda")
    with pytest.raises(DeviceError, match="precision: found tf32, which a CPU does not have"):
        ttrd3.Upscaler.from_file(weights, "cpu", precision="tf32")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"lr: found uint8 \(8, 8\), expected an array \(h, w, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), "lr: found uint8"),
        (np.zeros((8, 8, 3), np.uint16), "lr: found uint16, expected uint8, or float in 0..1"),
        (np.full((8, 8, 3), np.nan), "lr: holds values that are no finite numbers"),
        (Image.new("L", (8, 8)), "lr: found a PIL image of mode L, expected RGB"),
        (torch.zeros(8, 8, 3), r"lr: found torch.float32 \(8, 8, 3\), expected float \(3, h, w\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "lr: found torch.uint8"),
        (5, "lr: found int, expected an array"),
    ],
)
def test_images_that_cannot_be(upscaler, image, message):
    with pytest.raises(DataError, match=message):
        upscaler().upscale(image)


def test_references_that_cannot_be(upscaler, lr):
    with pytest.raises(DataError, match="reference: a reference of 2 x 9 pixels, expected at least 8 x 8"):
        upscaler().upscale(lr, picture(0, 9, 2))
    with pytest.raises(DataError, match="reference: the reference is blank"):
        upscaler().upscale(lr, np.full((64, 64, 3), 9, np.uint8))


MEMORY = """
import resource, sys
import numpy as np
from ttrd3 import Upscaler
import logging; logging.basicConfig(format="%(message)s")
upscaler = Upscaler.from_file(sys.argv[1], "cpu", tile=384, overlap=0, steps=1)
lr = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
upscaler.upscale(lr[:16, :16])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]) * 2**20,) * 2)
print(upscaler.upscale(lr).shape)
"""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for a convolution forward propagation"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_words_for_memory_that_runs_out(error, expected):
    assert is_out_of_memory(error) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_that_runs_out_is_met_with_smaller_tiles(weights):
    environment = {"PYTHONPATH": str(ROOT / "codes"), "OMP_NUM_THREADS": "1"}

    for left in ("64", "72", "80", "96", "128"):  # MiB: what the smaller tile needs depends on the processor's kernels
        command = [sys.executable, "-c", MEMORY, str(weights), left]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode == 0:
            break
    assert done.stdout.strip() == "(384, 384, 3)", done.stderr
    assert "out of memory: tries again with tiles of 192 x 192 pixels, 1 at once" in done.stderr
