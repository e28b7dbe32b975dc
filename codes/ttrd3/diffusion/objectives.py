"""What the network's outputs mean: the six objectives of RDDM (arXiv:2308.13712), for training and for sampling.

An objective names its outputs, gives their training targets, and converts outputs to residual, noise and x_0.
All images are (N, 3, H, W) in [-1, 1].
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor

from ttrd3.diffusion.process import DiffusionProcess, at
from ttrd3.errors import ConfigError

ObjectiveName = Literal[
    "pred_res_noise", "pred_res_add_noise", "pred_x0_noise", "pred_x0_add_noise", "pred_noise", "pred_res"
]


class Prediction(NamedTuple):
    """What one call of the network says about the image: I_res, eps and x_0."""

    residual: Tensor
    noise: Tensor
    x0: Tensor


class Objective(ABC):
    """Meaning of the network's outputs."""

    outputs: ClassVar[tuple[str, ...]]
    """What each output carries: "residual" (the residual or x_0) or "noise" (the noise or the noise plus that)."""

    @abstractmethod
    def targets(self, x0: Tensor, x_in: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        """What each output should be."""

    @abstractmethod
    def convert(
        self, outputs: tuple[Tensor, ...], process: DiffusionProcess, x_t: Tensor, x_in: Tensor, t: Tensor, clamp: bool
    ) -> Prediction:
        """Outputs of the network -> residual, noise and x_0.

        With `clamp` (sampling) residual and x_0 are kept in [-1, 1], the noise never; training uses the raw values.
        """


class PredResNoise(Objective):
    """a = I_res, b = eps: the paper's objective."""

    outputs = ("residual", "noise")

    def targets(self, x0, x_in, noise):
        """I_res, eps."""
        return x_in - x0, noise

    def convert(self, outputs, process, x_t, x_in, t, clamp):
        """x_0 follows from both."""
        a, b = outputs
        residual = limit(a, clamp)
        return Prediction(residual, b, limit(process.x0_from(x_t, residual, b, t), clamp))


class PredResAddNoise(Objective):
    """a = I_res, b = I_res + eps."""

    outputs = ("residual", "noise")

    def targets(self, x0, x_in, noise):
        """I_res, I_res + eps."""
        return x_in - x0, x_in - x0 + noise

    def convert(self, outputs, process, x_t, x_in, t, clamp):
        """The noise is b - a with the unclamped a, as released."""
        a, b = outputs
        residual = limit(a, clamp)
        return Prediction(residual, b - a, limit(process.x0_from(x_t, residual, b - a, t), clamp))


class PredX0Noise(Objective):
    """a = x_0, b = eps."""

    outputs = ("residual", "noise")

    def targets(self, x0, x_in, noise):
        """x_0, eps."""
        return x0, noise

    def convert(self, outputs, process, x_t, x_in, t, clamp):
        """The residual is x_in - a with the unclamped a, as released."""
        a, b = outputs
        return Prediction(limit(x_in - a, clamp), b, limit(a, clamp))


class PredX0AddNoise(Objective):
    """a = x_0, b = x_0 + eps."""

    outputs = ("residual", "noise")

    def targets(self, x0, x_in, noise):
        """x_0, x_0 + eps."""
        return x0, x0 + noise

    def convert(self, outputs, process, x_t, x_in, t, clamp):
        """Residual and noise take the unclamped a, as released."""
        a, b = outputs
        return Prediction(limit(x_in - a, clamp), b - a, limit(a, clamp))


class PredNoise(Objective):
    """a = eps alone. At t = T-1 x_t holds nothing of x_0, so one step cannot restore; use two or more."""

    outputs = ("noise",)

    def targets(self, x0, x_in, noise):
        """Eps."""
        return (noise,)

    def convert(self, outputs, process, x_t, x_in, t, clamp):
        """x_0 = (x_t - abar x_in - bbar a) / (1 - abar); the residual is taken from the clamped x_0."""
        (a,) = outputs
        x0 = (x_t - at(process.abar, t) * x_in - at(process.bbar, t) * a) / at(process.one_minus_abar, t)
        x0 = limit(x0, clamp)
        return Prediction(limit(x_in - x0, clamp), a, x0)


class PredRes(Objective):
    """a = I_res alone; the noise is what is left of x_t."""

    outputs = ("residual",)

    def targets(self, x0, x_in, noise):
        """I_res."""
        return (x_in - x0,)

    def convert(self, outputs, process, x_t, x_in, t, clamp):
        """Eps = (x_t - x_in - (abar - 1) a) / bbar, x_0 = x_in - a."""
        (a,) = outputs
        residual = limit(a, clamp)
        noise = (x_t - x_in - (at(process.abar, t) - 1) * residual) / at(process.bbar, t)
        return Prediction(residual, noise, limit(x_in - residual, clamp))


OBJECTIVES: dict[str, Objective] = {
    "pred_res_noise": PredResNoise(),
    "pred_res_add_noise": PredResAddNoise(),
    "pred_x0_noise": PredX0Noise(),
    "pred_x0_add_noise": PredX0AddNoise(),
    "pred_noise": PredNoise(),
    "pred_res": PredRes(),
}


def limit(image: Tensor, clamp: bool) -> Tensor:
    """`image` in [-1, 1] if `clamp`, else as it is."""
    return image.clamp(-1, 1) if clamp else image


def require_residual(objective: ObjectiveName, fidelity: float, option: str, of: str = "") -> None:
    """Check that a fidelity can be used: above 0 it takes the residual that the network says at the first step.

    Args:
        objective: What the network predicts.
        fidelity: 0 to 1.
        option: The name of the option, for the message, as the user wrote it.
        of: Whose objective it is, as " of FILE".

    Raises:
        ConfigError: The network predicts noise alone.
    """
    if fidelity > 0 and "residual" not in OBJECTIVES[objective].outputs:
        raise ConfigError(
            f"{option}: found {fidelity:g}, but the objective {objective}{of} predicts noise alone, and fidelity needs "
            "a residual at the first step. Set it to 0."
        )
