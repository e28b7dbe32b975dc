import itertools

import pytest
import torch
from helpers import relative_error
from test_process import stand_in

from ttrd3.diffusion.objectives import OBJECTIVES, Prediction
from ttrd3.diffusion.process import DiffusionProcess
from ttrd3.diffusion.samplers import sample

SCHEDULES = ["decreasing", "increasing", "average"]


def stand_in_sampler(g, name, steps, **options):
    process, objective = DiffusionProcess(), OBJECTIVES[name]

    def predict(x, t):
        outputs = stand_in(g["x_in"], x, t)[: len(objective.outputs)]
        return objective.convert(outputs, process, x, g["x_in"], t, clamp=True)

    return (sample(predict, process, process.start(g["x_in"], g["eps"]), steps, **options) + 1) / 2


@pytest.mark.parametrize("steps", [10, 4])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_golden_samples(golden, name, steps):
    g = golden("process")
    assert relative_error(stand_in_sampler(g, name, steps), g[f"{name}_sample{steps}"]) < 1e-4


def test_golden_sample_with_eta(golden):
    g = golden("process")
    noises = iter([g["step_noise0"], g["step_noise1"], g["step_noise2"]])
    found = stand_in_sampler(g, "pred_res_noise", 4, eta=1.0, fresh_noise=lambda: next(noises))
    assert relative_error(found, g["pred_res_noise_sample4_eta1"]) < 1e-4
    assert next(noises, None) is None  # no noise at the last step


def images():
    """x_0, x_in (apart by less than 1, as the clamped residual demands) and noise."""
    return torch.rand(1, 3, 4, 4) - 0.5, torch.rand(1, 3, 4, 4) - 0.5, torch.randn(1, 3, 4, 4)


def exact(process, objective, x0, x_in):
    """A network that knows x_0: its outputs are the objective's targets for the noise that x_t really holds."""

    def predict(x, t):
        noise = (x - x0 - process.abar[t] * (x_in - x0)) / process.bbar[t]
        return objective.convert(objective.targets(x0, x_in, noise), process, x, x_in, t, clamp=True)

    return predict


@pytest.mark.parametrize(("alpha", "beta"), list(itertools.product(SCHEDULES, SCHEDULES)))
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_exact_predictor_recovers_x0(name, alpha, beta):
    x0, x_in, noise = images()
    process = DiffusionProcess(50, alpha, beta)
    for steps in (1, 2, 7, 50):
        if name == "pred_noise" and steps == 1:
            continue  # x_T holds nothing of x_0, and this objective says nothing else: see PredNoise
        for eta in (0.0, 0.3, 1.0):
            found = sample(
                exact(process, OBJECTIVES[name], x0, x_in),
                process,
                process.start(x_in, noise),
                steps,
                eta,
                fresh_noise=lambda: torch.randn(1, 3, 4, 4),
            )
            torch.testing.assert_close(found, x0, rtol=0, atol=1e-3)


@pytest.mark.parametrize("alpha", SCHEDULES)
def test_an_exact_predictor_recovers_x0_in_all_of_a_thousand_steps(alpha):
    x0, x_in, noise = images()
    process = DiffusionProcess(1000, alpha)
    predict = exact(process, OBJECTIVES["pred_res_noise"], x0, x_in)
    torch.testing.assert_close(sample(predict, process, process.start(x_in, noise), 1000), x0, rtol=0, atol=1e-4)


def test_all_steps_with_eta_one_is_ancestral_sampling():
    process = DiffusionProcess(12)
    x_in, start = torch.rand(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    fresh = [torch.randn(1, 3, 4, 4) for _ in range(12)]

    def predict(x, t):
        residual, noise = stand_in(x_in, x, t)
        return Prediction(residual, noise, process.x0_from(x, residual, noise, t))

    x = process.start(x_in, start)
    for step, time in enumerate(range(11, -1, -1)):  # by the posterior, step by step
        t = torch.tensor([time])
        residual, _, x0 = predict(x, t)
        mean, variance, _ = process.posterior(x, residual, x0, t)
        x = mean + variance.sqrt() * fresh[step]
    noises = iter(fresh)
    found = sample(predict, process, process.start(x_in, start), 12, eta=1.0, fresh_noise=lambda: next(noises))
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-5)


def test_eta_in_between_spreads_less_than_ancestral():
    process = DiffusionProcess(100, sum_scale=1.0)
    spread = []
    for eta in (0.0, 0.5, 1.0):
        added = []

        def fresh(added=added):
            added.append(torch.ones(1, 3, 2, 2))
            return added[-1]

        zero = torch.zeros(1, 3, 2, 2)
        result = sample(lambda x, t: Prediction(zero, zero, x), process, zero, 5, eta, fresh)  # noqa: B023
        spread.append(result.mean().item())
        assert len(added) == (4 if eta else 0)
    # The variance added by each step is proportional to eta, hence the sum of its roots to sqrt(eta).
    assert spread[0] == 0
    assert spread[1] == pytest.approx(spread[2] * 0.5**0.5, rel=1e-5)


def test_bad_eta_is_an_error():
    process = DiffusionProcess(10)
    for eta, fresh in ((1.5, lambda: 0), (-0.1, lambda: 0), (0.5, None)):
        with pytest.raises(ValueError, match="expected 0 to 1"):
            sample(lambda x, t: None, process, torch.zeros(1, 3, 2, 2), 2, eta, fresh)
