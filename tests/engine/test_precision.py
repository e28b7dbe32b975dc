"""Number formats and ways to save memory or time: what they change, and what they leave alone."""

import pytest
import torch
from helpers import SMALL, relative_error
from safetensors.torch import load_file

from ttrd3.engine import acceleration
from ttrd3.engine.distributed import ALONE
from ttrd3.engine.loading import TrainingSamples, batches, training_loader
from ttrd3.engine.precision import Precision
from ttrd3.engine.stepper import Stepper
from ttrd3.engine.trainer import Trainer
from ttrd3.errors import DeviceError
from ttrd3.networks.matching import match

CPU = torch.device("cpu")


def batch_of(options):
    trainer = Trainer(options)
    return next(batches(training_loader(TrainingSamples(trainer.data, 1000, seed=1), 2, 0, 0, pin=False)))


def gradient(options, batch) -> torch.Tensor:
    stepper = Stepper(options, CPU, ALONE)
    stepper._backward(0, [batch])
    scale = stepper.precision.scaler.get_scale()
    return torch.cat([p.grad.flatten() / scale for p in stepper.model.parameters() if p.grad is not None])


# Half precision rounds to 8 and 11 bits; the rest computes the same sums in another order.
@pytest.mark.parametrize(
    ("setting", "tolerance", "differs"),
    [
        ("train.precision=bfloat16", 0.1, True),
        ("train.precision=float16", 0.02, True),
        ("train.channels_last=true", 1e-4, False),
        ("train.gradient_checkpointing=true", 1e-6, False),
    ],
)
@pytest.mark.parametrize("network", [(), SMALL], ids=["1Net-A", "S"])
def test_the_gradient_is_that_of_the_plain_float32_loop(tiny, network, setting, tolerance, differs):
    batch = batch_of(tiny())
    plain, found = gradient(tiny(*network), batch), gradient(tiny(*network, setting), batch)
    assert found.dtype == torch.float32
    assert relative_error(found, plain) < tolerance
    if differs:
        assert relative_error(found, plain) > 1e-5  # the networks did compute in half precision


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_and_resumes_exactly(tiny, precision):
    settings = (f"train.precision={precision}", "train.channels_last=true", "train.schedule=constant")
    whole = Trainer(tiny(*settings, "name=whole", "train.steps=6"))
    whole.run()
    Trainer(tiny(*settings, "train.steps=3")).run()
    parts = Trainer(tiny(*settings, "train.steps=6"))
    assert parts.step == 3
    parts.run()
    expected, found = (load_file(t.folder.weights) for t in (whole, parts))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert all(value.dtype == torch.float32 for value in found.values())
    assert whole.stepper.scale_state() == parts.stepper.scale_state()


def test_an_overflow_of_float16_lowers_the_scale_and_is_no_fault(tiny):
    trainer = Trainer(tiny("train.precision=float16", "train.max_skipped=1"))
    trainer.stepper.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100)
    trainer.run()
    assert trainer.finished
    assert trainer.skipped.total == 4
    assert trainer.stepper.precision.scaler.get_scale() == 2.0**96
    assert "step 1: skipped, float16 overflowed" in (trainer.folder.path / "train.log").read_text()


def test_matching_stays_float32_under_autocast():
    lr, reference = torch.randn(1, 8, 6, 6), torch.randn(1, 8, 6, 6)
    expected = match(lr, reference, 3, 2**20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = match(lr, reference, 3, 2**20)
    assert torch.equal(found.index, expected.index)
    assert torch.equal(found.similarity, expected.similarity)


def test_tf32_needs_a_gpu():
    with pytest.raises(DeviceError, match=r"train\.precision: found tf32, which a CPU does not have.*bfloat16"):
        Precision("tf32", CPU)


def test_compile_needs_a_compiler(tiny, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DeviceError, match=r"train\.compile: .*C\+\+ compiler.*train\.compile: false"):
        Trainer(tiny("train.compile=true"))


def test_compiled_networks_keep_their_names_and_gradient(tiny, monkeypatch):
    """With the eager backend: what Inductor makes of it is not ours to test, and takes minutes."""
    batch = batch_of(tiny())
    plain = gradient(tiny(), batch)
    compiled = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled(self, backend="eager"))
    assert relative_error(gradient(tiny("train.compile=true"), batch), plain) < 1e-5
    names = Stepper(tiny("train.compile=true"), CPU, ALONE).model.state_dict().keys()
    assert names == Stepper(tiny(), CPU, ALONE).model.state_dict().keys()


@pytest.mark.parametrize("network", [(), [*SMALL, "model.unet.encoder_blocks=[24, 8]"]], ids=["1Net-A", "S"])
def test_recomputation_needs_less_memory(tiny, network):
    """Bytes that the backward pass keeps, counted by what autograd saves."""

    def saved(*settings) -> int:
        model, kept = Stepper(tiny(*network, *settings), CPU, ALONE).model, []
        image = torch.rand(2, 3, 32, 32)
        textures = model.encode(image, None, None)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
            model.denoise(image, torch.tensor([3, 3]), image, textures)
        return sum(kept)

    assert saved("train.gradient_checkpointing=true") < 0.5 * saved()


def test_peak_memory_counts_what_was_used():
    before = acceleration.peak_memory(CPU)
    block = torch.ones(50_000_000)  # 200 MB
    assert acceleration.peak_memory(CPU) >= before
    assert acceleration.peak_memory(CPU) >= block.nbytes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float16"])
def test_every_precision_on_cuda(tiny, precision):
    found = Trainer(tiny("device=cuda", f"train.precision={precision}", "train.channels_last=true")).run()
    assert found.results.overall()["ttrd3"]["psnr"] > 10


def test_tf32_holds_in_the_backward_pass_too(tiny, monkeypatch):
    """The flags alone, which a CPU ignores."""
    monkeypatch.setattr("ttrd3.engine.precision.require_precision", lambda *_: None)
    stepper, seen = Stepper(tiny("train.precision=tf32"), CPU, ALONE), []
    first = next(stepper.model.parameters())
    first.register_hook(lambda _: seen.append(torch.backends.cudnn.allow_tf32))
    stepper._backward(0, [batch_of(tiny())])
    assert seen == [True]
    assert not torch.backends.cudnn.allow_tf32
