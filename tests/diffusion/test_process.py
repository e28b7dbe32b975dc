import numpy as np
import pytest
import torch
from helpers import relative_error

from ttrd3.diffusion.objectives import OBJECTIVES
from ttrd3.diffusion.process import DiffusionProcess

TIMES = [0, 1, 500, 999]


def stand_in(x_in, x_t, t):
    """The network of the golden values (shared golden README): a = 0.5 tanh(x_in - x_t) + 0.1 t / 1000, ..."""
    s = t.view(-1, 1, 1, 1) / 1000
    return 0.5 * torch.tanh(x_in - x_t) + 0.1 * s, 0.7 * torch.sin(3 * x_t) - 0.2 * s


@pytest.fixture(scope="module")
def process():
    return DiffusionProcess()


@pytest.mark.parametrize("time", TIMES)
def test_golden_forward_and_posterior(golden, process, time):
    g = golden("process")
    t = torch.tensor([time])
    residual = g["x_in"] - g["x0"]
    x_t = process.diffuse(g["x0"], residual, g["eps"], t)
    assert relative_error(x_t, g[f"q_sample_t{time}"]) < 1e-5
    mean = process.posterior_mean(x_t, residual, g["eps"], t)
    assert relative_error(mean, g[f"posterior_from_res_noise_t{time}"]) < 1e-5
    mean, variance, log_variance = process.posterior(x_t, residual, g["x0"], t)
    assert relative_error(mean, g[f"posterior_mean_t{time}"]) < 1e-5
    torch.testing.assert_close(variance, g[f"posterior_var_t{time}"], rtol=1e-5, atol=0)
    assert log_variance.item() == pytest.approx(np.log(max(variance.item(), 1e-20)), rel=1e-4)


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_golden_predictions(golden, process, name, time):
    g = golden("process")
    t = torch.tensor([time])
    objective = OBJECTIVES[name]
    x_t = g[f"q_sample_t{time}"]
    outputs = stand_in(g["x_in"], x_t, t)[: len(objective.outputs)]
    found = objective.convert(outputs, process, x_t, g["x_in"], t, clamp=True)
    assert relative_error(found.residual, g[f"{name}_pred_res_t{time}"]) < 1e-4
    assert relative_error(found.noise, g[f"{name}_pred_noise_t{time}"]) < 1e-4
    assert relative_error(found.x0, g[f"{name}_pred_x0_t{time}"]) < 1e-4


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("time", [0, 3, 8])
def test_targets_convert_back_to_what_they_came_from(name, time):
    process = DiffusionProcess(10)
    objective = OBJECTIVES[name]
    x0, x_in, noise = torch.rand(2, 3, 4, 4) - 0.5, torch.rand(2, 3, 4, 4) - 0.5, torch.randn(2, 3, 4, 4)
    t = torch.full((2,), time)
    x_t = process.diffuse(x0, x_in - x0, noise, t)
    targets = objective.targets(x0, x_in, noise)
    assert len(targets) == len(objective.outputs)
    for clamp in (False, True):
        found = objective.convert(targets, process, x_t, x_in, t, clamp)
        torch.testing.assert_close(found.x0, x0, rtol=0, atol=1e-4)
        torch.testing.assert_close(found.residual, x_in - x0, rtol=0, atol=1e-4)
        torch.testing.assert_close(found.noise, noise, rtol=0, atol=1e-4)


@pytest.mark.parametrize("alpha", ["decreasing", "increasing", "average"])
@pytest.mark.parametrize("beta", ["decreasing", "increasing", "average"])
def test_both_posterior_means_agree_and_end_at_x0(alpha, beta):
    process = DiffusionProcess(20, alpha, beta, 0.5)
    x0, residual, noise = (torch.randn(1, 3, 4, 4) for _ in range(3))
    for time in range(20):
        t = torch.tensor([time])
        x_t = process.diffuse(x0, residual, noise, t)
        from_x0, variance, _ = process.posterior(x_t, residual, x0, t)
        torch.testing.assert_close(process.posterior_mean(x_t, residual, noise, t), from_x0, rtol=1e-4, atol=2e-5)
        if time == 0:
            torch.testing.assert_close(from_x0, x0)
            assert variance.item() == 0


def test_times_are_linspace_truncated_in_exact_arithmetic():
    process = DiffusionProcess(1000)
    assert process.times(7) == [999, 856, 713, 570, 427, 284, 141, -1]
    assert process.times(1) == [999, -1]
    assert process.times(1000) == list(range(999, -2, -1))
    for steps in range(1, 1001):
        times = process.times(steps)
        assert len(set(times)) == steps + 1
        plain = np.linspace(-1, 999, steps + 1)[::-1]
        assert all(t == int(p) or abs(t - p) < 1e-9 for t, p in zip(times, plain, strict=True))


@pytest.mark.parametrize("steps", [0, 1001, -3])
def test_impossible_step_counts_are_errors(steps):
    with pytest.raises(ValueError, match="expected 1 to 1000"):
        DiffusionProcess(1000).times(steps)
