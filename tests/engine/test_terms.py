"""Losses in training: terms that begin later, terms with critics of their own, and which outputs a term teaches."""

import math

import numpy as np
import pytest
import torch
from data.builders import prepared
from helpers import SMALL
from metrics.weights import save_features
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision import models

from ttrd3.data.triplets import TripletDataset
from ttrd3.engine import checkpoint
from ttrd3.engine.distributed import ALONE
from ttrd3.engine.loading import TrainingSamples, batches, training_loader
from ttrd3.engine.stepper import Stepper
from ttrd3.engine.trainer import Trainer
from ttrd3.errors import CheckpointError, ConfigError, UserError
from ttrd3.losses.adversarial import Critics
from ttrd3.losses.base import weight_at
from ttrd3.losses.posterior import RestoredPixel

CPU = torch.device("cpu")
PLAIN = "{type: l1, of: residual}, {type: l1, of: noise}"


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """Options of a frozen network that is quick to ask."""
    file = save_features(tmp_path_factory.mktemp("trunk") / "squeezenet.pth", models.squeezenet1_1)
    return f"trunk: squeezenet, file: {file}"


def batch_of(trainer):
    return next(batches(training_loader(trainer.samples, 2, 0, 0, pin=False)))


# --- weights by step ---


def test_a_term_is_computed_from_its_first_step_on(tiny, monkeypatch):
    losses = "losses=[{type: l1, of: noise, weight: [[0, 1], [3, 0.5]]}, {type: restored, weight: [[2, 0.2]]}]"
    trainer = Trainer(tiny(*SMALL, losses))
    calls, real = [], RestoredPixel.__call__
    monkeypatch.setattr(RestoredPixel, "__call__", lambda loss, step: calls.append(1) or real(loss, step))
    for number in range(4):
        values = trainer.stepper.step(number, [batch_of(trainer)]).values
        assert ("loss/restored_l1" in values) == (number >= 2) == (len(calls) == number - 1 > 0)
        weights = {loss.name: weight_at(loss.weight, number) for loss in trainer.stepper.losses}
        total = sum(weight * values.get(f"loss/{name}", math.nan) for name, weight in weights.items() if weight)
        assert values["loss/total"] == pytest.approx(total, rel=1e-5)


def test_the_log_has_a_term_from_its_first_step_on(tiny):
    """Between two lines, too: its mean is that of the steps that had it."""
    losses = f"losses=[{PLAIN}, {{type: restored, weight: [[1, 0.0001], [3, 0]]}}]"
    found = {}
    for every in (1, 4):
        trainer = Trainer(tiny(*SMALL, losses, f"train.log_every={every}", f"name=every{every}", "val.pictures=0"))
        trainer.run()
        events = EventAccumulator(str(trainer.folder.tensorboard))
        events.Reload()
        found[every] = {event.step: event.value for event in events.Scalars("loss/restored_l1")}
    assert list(found[1]) == [2, 3]
    assert found[4] == {4: pytest.approx(sum(found[1].values()) / 2, rel=1e-6)}


# --- what a term teaches ---


@pytest.mark.parametrize("term", ["restored", "posterior"])
@pytest.mark.parametrize("detach", [True, False])
def test_a_detached_residual_learns_from_its_own_term_alone(tiny, term, detach):
    losses = f"losses=[{PLAIN}, {{type: {term}}}]"
    options = tiny(*SMALL, losses, f"train.detach_residual={str(detach).lower()}")
    batch, stepper = batch_of(Trainer(options)), Stepper(options, CPU, ALONE)
    step, loss = stepper._predict(batch), stepper.losses[2]
    residual, noise = torch.autograd.grad(loss(step), [step.outputs["residual"], step.outputs["noise"]],
                                          retain_graph=True, allow_unused=True)  # fmt: skip
    assert noise.any()
    assert (residual is None) == detach
    assert torch.autograd.grad(stepper.losses[0](step), step.outputs["residual"])[0].any()


@pytest.mark.parametrize("detach", [True, False])
def test_a_term_of_the_faithful_image_teaches_the_residual_alone(tiny, detach):
    losses = f"losses=[{PLAIN}, {{type: ssim, image: faithful}}]"
    options = tiny(*SMALL, losses, f"train.detach_residual={str(detach).lower()}")
    batch, stepper = batch_of(Trainer(options)), Stepper(options, CPU, ALONE)
    step, loss = stepper._predict(batch), stepper.losses[2]
    torch.testing.assert_close(step.faithful - step.x0_target, step.targets["residual"] - step.outputs["residual"])
    residual, noise = torch.autograd.grad(
        loss(step), [step.outputs["residual"], step.outputs["noise"]], allow_unused=True
    )
    assert residual.any()
    assert noise is None


def test_parts_that_are_not_named_stay_as_they_were(tiny):
    trainer = Trainer(tiny(*SMALL, "train.only=[transfer, unet.head]", "val.pictures=0"))
    model, average = trainer.stepper.model, trainer.stepper.ema.model
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer.run()
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(("transfer.", "unet.head.")) for name in changed)
    averaged = {name for name, value in average.named_parameters() if not torch.equal(value, before[name])}
    assert averaged == changed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["train.only=[unet.hat]"], r"train\.only: found unet\.hat, which has no parameters; .*unet\.head"),
        (["train.only=[]"], r"train\.only"),
        (
            ["train.only=[unet.noise]", "model.unet.noise_blocks=1", "losses=[{type: l1, of: residual}]"],
            r"train\.only: found unet\.noise, which no loss that counts at step 0 depends on",
        ),
    ],
)
def test_parts_that_cannot_learn(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        Trainer(tiny(*SMALL, *changes)).run()


def test_what_the_losses_see_is_the_image_that_sampling_would_give(tiny):
    """x_0 in one step from t = T-1."""
    options = tiny(*SMALL, "train.at_start=1.0", "diffusion.timesteps=7")
    trainer = Trainer(options)
    batch = batch_of(trainer)
    assert batch["t"].tolist() == [6, 6]
    step = trainer.stepper._predict(batch)
    x_in, process = 2 * batch["up"].float() / 255 - 1, trainer.stepper.process
    expected = x_in + process.bbar[6] * (batch["noise"] - step.outputs["noise"]) - step.outputs["residual"]
    torch.testing.assert_close(step.x0, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(step.x0_target, 2 * batch["hr"].float() / 255 - 1)


def test_a_share_of_samples_stands_where_sampling_starts(tmp_path):
    dataset = TripletDataset(str(prepared(tmp_path, {"a": 2})), "train", reference="none", crop=4, seed=0)
    plain, half, every = (TrainingSamples(dataset, 1000, seed=3, at_start=share) for share in (0.0, 0.5, 1.0))
    times = [[samples[counter]["t"] for counter in range(300)] for samples in (plain, half, every)]
    moved = [b != a for a, b in zip(times[0], times[1], strict=True)]
    assert all(t == 999 for t, there in zip(times[1], moved, strict=True) if there)
    assert abs(np.mean(moved) - 0.5) < 0.09  # three standard deviations
    assert set(times[2]) == {999}
    assert times[0].count(999) < 3
    assert all(torch.equal(plain[7][key], half[7][key]) for key in ("hr", "noise"))


# --- fidelity ---

TOLD = ("model.unet.noise_blocks=1", "model.unet.told_fidelity=true")
BY_FIDELITY = f"losses=[{PLAIN}, {{type: ssim, image: x0, by_fidelity: true, weight: 1.0}}]"


def test_fidelity_is_drawn_for_networks_that_are_told_it_and_changes_no_other_draw(tiny):
    trainer = Trainer(tiny(*SMALL, *TOLD, "train.fidelity=0.5", BY_FIDELITY))
    drawn = [trainer.samples[counter]["fidelity"].item() for counter in range(100)]
    assert 0 <= min(drawn) < 0.05 < 0.45 < max(drawn) < 0.5
    plain = Trainer(tiny(*SMALL, "name=plain")).samples[7]
    assert "fidelity" not in plain
    assert all(torch.equal(plain[key], trainer.samples[7][key]) for key in ("hr", "noise"))


def test_networks_learn_what_fidelity_means(tiny):
    """What the realistic end is to look like is not what images nearer to the faithful end are to."""
    short = ["train.steps=6", "train.learning_rate=1e-2", "val.pictures=0"]
    trainer = Trainer(tiny(*SMALL, *TOLD, BY_FIDELITY, "train.at_start=1.0", *short))
    batch = batch_of(trainer) | {"fidelity": torch.tensor([0.0, 0.5])}

    def added():
        with torch.no_grad():
            step = trainer.stepper._predict(batch)
            line = trainer.stepper._predict(batch | {"fidelity": torch.zeros(2)})
        noise = batch["noise"][1]
        return (step.outputs["noise"][1] - noise) - 0.5 * (line.outputs["noise"][1] - noise)

    assert added().abs().max() < 1e-4
    trainer.run()
    assert added().abs().mean() > 1e-3


def test_a_loss_by_fidelity_needs_a_network_that_is_told_it(tiny):
    with pytest.raises(ConfigError, match=r"losses\.2\.by_fidelity: found true.*told_fidelity=true"):
        tiny(*SMALL, BY_FIDELITY)


@pytest.mark.parametrize("setting", ["diffusion.objective=pred_res_add_noise", "diffusion.sum_scale=0.04"])
def test_fidelity_cannot_be_told_where_the_noise_output_does_not_begin_true(tiny, setting):
    found = r"told_fidelity: found true with the objective \w+ and sum_scale \S+, expected pred_res_noise and 0\.01"
    with pytest.raises(ConfigError, match=found):
        tiny(*SMALL, *TOLD, setting)


# --- critics ---


def adversarial(trunk, *more, weight="[[1, 0.1]]"):
    term = f"{{type: adversarial, {trunk}, width: 4, weight: {weight}}}"
    return [*SMALL, f"losses=[{PLAIN}, {term}]", "train.schedule=constant", "val.pictures=0", *more]


def newest(trainer):
    return load_file(trainer.folder.checkpoints()[0])


@pytest.mark.parametrize("begins", [0, 3])  # before the run is stopped, and after
def test_a_run_with_critics_in_two_parts_equals_one_run(tiny, trunk, begins):
    settings = adversarial(trunk, weight=f"[[{begins}, 0.1]]")
    whole = Trainer(tiny(*settings, "name=whole"))
    first = {name: value.clone() for name, value in whole.stepper.critics[0].critic.state_dict().items()}
    whole.run()
    Trainer(tiny(*settings, "train.steps=2")).run()
    parts = Trainer(tiny(*settings))
    assert parts.step == 2
    parts.run()
    expected, found = newest(whole), newest(parts)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    critic = {
        name.removeprefix("critic.adversarial_squeezenet."): v
        for name, v in found.items()
        if name.startswith("critic.")
    }
    assert critic.keys() >= {"model.0.0.parametrizations.weight.0._u", "adam.exp_avg.0.4.bias"}
    changed = {name.rpartition(".")[2] for name, value in first.items() if critic[f"model.{name}"].ne(value).any()}
    assert changed == {"original", "_u", "_v", "weight", "bias"}  # spectral norm's weights and vectors, and the others
    assert {float(value) for name, value in critic.items() if name.startswith("adam.step.")} == {4.0 - begins}
    assert not any(name.startswith("critic") for name in load_file(whole.folder.weights))


def test_a_rehearsal_leaves_the_critics_as_they_are(tiny, trunk):
    trainer = Trainer(tiny(*adversarial(trunk)))
    critic = trainer.stepper.critics[0].critic
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    trainer._rehearse()
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())
    assert critic.training


def test_critics_that_are_added_or_widened_later_begin_anew(tiny, trunk):
    plain = [*SMALL, f"losses=[{PLAIN}]", "train.schedule=constant", "train.steps=1", "val.pictures=0"]
    Trainer(tiny(*plain)).run()
    settings = adversarial(trunk, "train.steps=2", weight="0.1")
    with pytest.raises(CheckpointError, match=r"losses\.2\.type: None when this run was last saved, now 'adversarial'"):
        Trainer(tiny(*settings))
    added = Trainer(tiny(*settings), accept_changes=True)
    added.run()
    assert newest(added)["critic.adversarial_squeezenet.adam.step.0.0.bias"] == 1
    wider = Trainer(tiny(*settings, "train.steps=3", "losses.2.width=6"), accept_changes=True)
    wider.run()
    assert newest(wider)["critic.adversarial_squeezenet.model.0.0.bias"].shape == (6,)
    assert newest(wider)["critic.adversarial_squeezenet.adam.step.0.0.bias"] == 1
    removed = Trainer(tiny(*plain, "train.steps=4"), accept_changes=True)
    removed.run()
    assert not any(name.startswith("critic") for name in newest(removed))


def test_a_step_that_is_skipped_teaches_no_critic(tiny, trunk):
    trainer = Trainer(tiny(*adversarial(trunk, weight="0.1")))
    critic = trainer.stepper.critics[0].critic
    before = [parameter.clone() for parameter in critic.parameters()]
    batch = batch_of(trainer)
    outcome = trainer.stepper.step(0, [batch | {"noise": batch["noise"] * torch.nan}])
    assert not outcome.updated
    assert all(torch.equal(a, b) for a, b in zip(critic.parameters(), before, strict=True))
    outcome = trainer.stepper.step(1, [batch])  # nothing of the bad step is left
    assert outcome.updated
    assert outcome.values["loss/adversarial_squeezenet_critic"] == pytest.approx(2, abs=1)
    assert not all(torch.equal(a, b) for a, b in zip(critic.parameters(), before, strict=True))
    assert all(parameter.isfinite().all() for parameter in critic.parameters())


def test_accumulated_passes_teach_the_critics_as_one_larger_batch(tiny, trunk, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # features are float32 then
    forward = Critics.forward  # each pass brings features to about 1 by its own HR: here by the same for all
    monkeypatch.setattr(Critics, "forward", lambda self, seen, _truth: forward(self, seen, [torch.ones(1)] * len(self)))
    gradients = []
    for size, count in ((4, 1), (2, 2)):
        trainer = Trainer(tiny(*adversarial(trunk, weight="0.1")))
        stream = batches(training_loader(trainer.samples, size, 0, 0, pin=False))
        trainer.stepper._backward(0, [next(stream) for _ in range(count)])
        critic = trainer.stepper.critics[0].critic
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in critic.parameters()]))
    # Spectral norms are estimated a little better in the second pass.
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0.1, atol=0.02 * gradients[0].abs().max().item())


def test_critics_survive_a_copy_of_their_file(tiny, trunk):
    trainer = Trainer(tiny(*adversarial(trunk, "train.steps=2", weight="0.1")))
    trainer.run()
    stored = checkpoint.load(trainer.folder.checkpoints()[0])
    other = Stepper(trainer.options, CPU, ALONE)
    other.restore(stored)
    one, two = (stepper.critics[0] for stepper in (trainer.stepper, other))
    for a, b in zip(one.critic.state_dict().values(), two.critic.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(one.critic.parameters(), two.critic.parameters(), strict=True):
        assert all(torch.equal(one.adam.state[a][moment], two.adam.state[b][moment]) for moment in one.adam.state[a])
