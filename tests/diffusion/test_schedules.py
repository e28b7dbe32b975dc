import pytest
import torch

from ttrd3.diffusion.process import DiffusionProcess
from ttrd3.diffusion.schedules import schedule

RELEASED_BUFFERS = {
    "alphas": "alpha",
    "alphas_cumsum": "abar",
    "one_minus_alphas_cumsum": "one_minus_abar",
    "betas2": "beta2",
    "betas": "beta",
    "betas2_cumsum": "beta2bar",
    "betas_cumsum": "bbar",
    "posterior_mean_coef1": "posterior_c1",
    "posterior_mean_coef2": "posterior_c2",
    "posterior_mean_coef3": "posterior_c3",
    "posterior_variance": "posterior_variance",
    "posterior_log_variance_clipped": "posterior_log_variance",
}


@pytest.mark.parametrize("released_name", ["decreased", "increased", "average"])
@pytest.mark.parametrize("timesteps", [10, 1000])
@pytest.mark.parametrize("total", [1.0, 0.01])
def test_golden_schedules(golden, released_name, timesteps, total):
    name = {"decreased": "decreasing", "increased": "increasing"}.get(released_name, released_name)
    expected = golden("schedules")[f"{released_name}_{timesteps}_{total}"]
    torch.testing.assert_close(schedule(name, timesteps, total), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("released_name", "name"), RELEASED_BUFFERS.items())
def test_golden_buffers(golden, released_name, name):
    found = getattr(DiffusionProcess(), name)
    torch.testing.assert_close(found, golden("schedules")["buffer_" + released_name], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("timesteps", [1, 2, 7, 1000])
def test_schedules_sum_to_total_and_go_their_way(timesteps):
    for name in ("decreasing", "increasing", "average"):
        values = schedule(name, timesteps, 0.3)
        assert values.sum().item() == pytest.approx(0.3, rel=1e-12)
        assert (values > 0).all()
    assert (schedule("decreasing", timesteps).diff() < 0).all()
    assert (schedule("increasing", timesteps).diff() > 0).all()


def test_unknown_schedule_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'cosine' is unknown.*decreasing, increasing, average"):
        schedule("cosine", 10)
