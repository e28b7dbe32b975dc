"""Distillation: the teacher's sampler is what it is alone, the student learns from it, and wrong settings are told."""

import pytest
import torch
from helpers import SMALL

from ttrd3.diffusion.objectives import OBJECTIVES
from ttrd3.engine.build import build_model, build_process
from ttrd3.engine.checkpoint import save_state
from ttrd3.engine.distill import Teacher
from ttrd3.engine.options import DistillOptions
from ttrd3.engine.trainer import Trainer
from ttrd3.errors import ConfigError
from ttrd3.inference.restore import Restorer

LOSSES = "losses=[{type: l1, of: residual}, {type: distilled, weight: 1.0}]"


@pytest.fixture
def teacher_file(tiny, tmp_path):
    options = tiny()
    model = build_model(options.model, options.diffusion)
    with torch.no_grad():
        model.unet.decoder.head.weight.mul_(20)  # so that what it samples is not nearly its input
    path = tmp_path / "teacher.safetensors"
    save_state(path, model.state_dict(), options, step=0)
    return path, model, options


def images(n=2, side=32):
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(n, 3, side, side, generator=generator) for _ in range(3)]


def test_the_teacher_samples_as_the_restorer_does_and_shows_where_it_came_through(teacher_file, monkeypatch):
    monkeypatch.setattr("ttrd3.engine.distill.bfloat16_pays", lambda _: False)
    path, model, options = teacher_file
    up, reference, degraded = images()
    there, noise = torch.tensor([True, False]), torch.randn(up.shape)
    teacher = Teacher(DistillOptions(teacher=str(path), teacher_steps=4, steps=2), options.diffusion, up.device)
    process = build_process(options.diffusion)
    t = torch.tensor([999, 499])
    x_t, x0 = teacher(up, reference, degraded, there, noise, t)
    restorer = Restorer(model.eval(), process, OBJECTIVES["pred_res_noise"], 4, 1.0, 0.0, 1)
    alone = restorer.sampled(up, restorer.textures(up, reference, degraded, there), lambda: noise)
    assert torch.allclose((x0 + 1) / 2, alone, atol=1e-5)
    start = process.start(2 * up - 1, noise)
    assert torch.equal(x_t[0], start[0])
    # Half way: two of the four steps from the start, by the plain network.
    x = start[1:]
    textures = [texture[1:] for texture in model.encode(up, reference, degraded, there)]
    for now, then in ((999, 749), (749, 499)):
        a, b = model.denoise(x, torch.tensor([now]), 2 * up[1:] - 1, textures)
        x = x - (process.abar[now] - process.abar[then]) * a.clamp(-1, 1) - (process.bbar[now] - process.bbar[then]) * b
    assert torch.allclose(x_t[1:], x, atol=1e-4)
    assert not torch.allclose(x_t[1:], start[1:], atol=1e-2)


def test_a_teacher_that_is_told_the_fidelity_samples_each_image_at_its_own(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("ttrd3.engine.distill.bfloat16_pays", lambda _: False)
    options = tiny(*SMALL, "model.unet.noise_blocks=1", "model.unet.told_fidelity=true")
    model = build_model(options.model, options.diffusion)
    with torch.no_grad():
        for parameter in model.unet.noise.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    path = tmp_path / "told.safetensors"
    save_state(path, model.state_dict(), options, step=0)
    up, reference, degraded = images()
    there, noise, t = torch.tensor([True, True]), torch.randn(up.shape), torch.tensor([999, 999])
    teacher = Teacher(DistillOptions(teacher=str(path), teacher_steps=2), options.diffusion, up.device)
    both = teacher(up, reference, degraded, there, noise, t, torch.tensor([0.0, 0.8]))[1]
    ends = [teacher(up, reference, degraded, there, noise, t, torch.full((2,), f))[1] for f in (0.0, 0.8)]
    assert torch.allclose(both[0], ends[0][0], atol=1e-5)
    assert torch.allclose(both[1], ends[1][1], atol=1e-5)
    assert (ends[0] - ends[1]).abs().max() > 1e-3


def test_the_student_comes_nearer_to_the_teacher(tiny, teacher_file):
    path, _, _ = teacher_file
    options = tiny(
        f"distill={{teacher: {path}, teacher_steps: 2, steps: 1}}", LOSSES, "train.steps=12", "train.learning_rate=1e-2"
    )
    trainer = Trainer(options)
    assert {trainer.samples[number]["t"] for number in range(8)} == {999}
    batch = {k: v[None] if torch.is_tensor(v) else torch.tensor([v]) for k, v in trainer.samples[0].items()
             if not isinstance(v, str)}  # fmt: skip

    def distance():
        with torch.no_grad():
            step = trainer.stepper._predict(batch)
        return (step.x0 - step.x0_teacher).abs().mean()

    before = distance()
    trainer.run()
    assert distance() < 0.95 * before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["distill={teacher: x}"], "`distill` without a loss `distilled`"),
        ([LOSSES], "a loss `distilled` without the section `distill`"),
        ([LOSSES, "distill={teacher: x, teacher_steps: 3, steps: 2}"], "a multiple"),
        ([LOSSES, "distill={teacher: x, teacher_steps: 2000}"], "at most diffusion.timesteps"),
    ],
)
def test_wrong_settings_are_told(tiny, settings, message):
    with pytest.raises(ConfigError, match=message):
        tiny(*settings)


def test_a_teacher_of_another_process_is_refused(tiny, teacher_file):
    path, _, _ = teacher_file
    other = tiny("diffusion.timesteps=10", f"distill={{teacher: {path}, teacher_steps: 2}}", LOSSES)
    with pytest.raises(ConfigError, match="trained with other schedules"):
        Trainer(other)
