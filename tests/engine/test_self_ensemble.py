"""The residual's target may be what the averaged weights find at another orientation (`train.self_ensemble`)."""

import numpy as np
import pytest
import torch
from helpers import SMALL
from safetensors.torch import load_file

from ttrd3.data.augment import apply_symmetry
from ttrd3.engine.distributed import ALONE
from ttrd3.engine.loading import batches, image, training_loader
from ttrd3.engine.stepper import Stepper
from ttrd3.engine.trainer import Trainer

LOSSES = "losses=[{type: l1, of: residual}, {type: l1, of: noise}]"
# What undoes each turn of `apply_symmetry`; those that mirror undo themselves.
INVERSE = {0: 0, 1: 3, 2: 2, 3: 1}
CPU = torch.device("cpu")


@pytest.fixture
def made(tiny):
    """A stepper that takes a share of 0.75, a batch with a reference for one of two images, and its step by number."""
    options = tiny(*SMALL, LOSSES, "train.self_ensemble=0.75", "data.train.reference_dropout=0.0")
    batch = next(batches(training_loader(Trainer(options).samples, 2, 0, 0, pin=False)))
    batch["has_reference"][1] = False
    stepper = Stepper(options, CPU, ALONE)
    with torch.no_grad():
        for parameter in stepper.ema.model.parameters():  # the average is another model than the one that learns
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return stepper, batch


def true_targets(stepper, batch):
    stepper.options.train.self_ensemble = 0.0
    try:
        return stepper._predict(batch).targets
    finally:
        stepper.options.train.self_ensemble = 0.75


def turned(images: torch.Tensor, symmetry: int) -> torch.Tensor:
    each = [apply_symmetry(image.numpy().transpose(1, 2, 0), symmetry).transpose(2, 0, 1) for image in images]
    return torch.from_numpy(np.stack(each))


def test_it_is_what_the_average_finds_at_each_other_orientation(made):
    stepper, batch = made
    seen = []
    stepper.ema.model.register_forward_hook(lambda _, inputs, outputs: seen.append((inputs, outputs)))
    truth = true_targets(stepper, batch)
    up = image(batch, "up")
    symmetries = []
    for number in range(7):
        step = stepper._predict(batch, number)
        inputs, outputs = seen[-1]
        symmetries += [s for s in range(8) if torch.equal(turned(up, s), inputs[2])]
        symmetry = symmetries[-1]
        for key, given in zip(("reference", "degraded_reference"), inputs[3:5], strict=True):
            assert torch.equal(turned(image(batch, key), symmetry), given)
        assert torch.equal(inputs[1], batch["t"])
        assert inputs[5].tolist() == [True, False]
        elsewhere = turned(outputs[0], INVERSE.get(symmetry, symmetry))
        expected = 0.25 * truth["residual"] + 0.75 * elsewhere
        torch.testing.assert_close(step.targets["residual"], expected)
        assert not step.targets["residual"].requires_grad
        assert torch.equal(step.targets["noise"], truth["noise"])
    assert sorted(symmetries) == list(range(1, 8))
    assert torch.equal(stepper._predict(batch, 7).targets["residual"], stepper._predict(batch, 0).targets["residual"])


def test_the_average_is_asked_when_the_residual_s_loss_counts(made):
    stepper, batch = made
    seen = []
    stepper.ema.model.register_forward_hook(lambda *_: seen.append(1))
    stepper.losses[0].weight = [[2, 1.0]]
    for number in range(4):
        stepper._predict(batch, number)
        assert len(seen) == max(0, number - 1)


def test_none_of_it_asks_the_average_nothing(made):
    stepper, batch = made
    stepper.ema.model.register_forward_hook(lambda *_: pytest.fail("asked"))
    true_targets(stepper, batch)


def test_it_resumes_exactly(tiny):
    settings = (
        *SMALL,
        LOSSES,
        "train.self_ensemble=0.9",
        "train.ema_every=1",
        "train.schedule=constant",
        "val.pictures=0",
    )
    whole = Trainer(tiny(*settings, "name=whole", "train.steps=4"))
    whole.run()
    Trainer(tiny(*settings, "name=parts", "train.steps=2")).run()
    parts = Trainer(tiny(*settings, "name=parts", "train.steps=4"))
    assert parts.step == 2
    parts.run()
    first, second = (load_file(trainer.folder.weights) for trainer in (whole, parts))
    assert all(torch.equal(first[name], second[name]) for name in first)
