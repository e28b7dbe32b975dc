"""What a sample takes as its reference: that of the data set's mode or, for shares of the samples, another kind."""

from dataclasses import dataclass

import numpy as np

from ttrd3.errors import ConfigError


@dataclass(frozen=True)
class Shares:
    """Shares of the samples that take a retrieved, or a warped, reference instead of that of the mode."""

    retrieved: float
    warped: float

    def require(self, reference: str, references: int, split: str) -> None:
        """Refuse shares that cannot be.

        Args:
            reference: The mode.
            references: How many an image has at once.
            split: Of the data set.

        Raises:
            ConfigError: They add up to more than 1, another option does not go with them, or the truth would be shown.
        """
        given = ", ".join(f"{name}: {share}" for name, share in vars(self).items() if share)
        if sum(vars(self).values()) > 1:
            raise ConfigError(f"{given}: found shares of samples that add up to more than 1. Lower one of them.")
        if given and (references > 1 or reference in ("none", "paired")):
            raise ConfigError(
                f"{given}: found with reference: {reference} and references: {references}, expected same_class, random "
                "or retrieved, and 1. Set the shares to 0, or change those."
            )
        if self.warped and split != "train":
            raise ConfigError(
                f"warped: found {self.warped} for the split {split}, expected 0: a warped reference is made of the HR "
                "image, which may be known in training only."
            )

    def draw(self, reference: str, rng: np.random.Generator) -> str:
        """The mode of one sample: `retrieved`, `warped` or `reference`; without shares nothing is drawn from `rng`."""
        if not any(vars(self).values()):
            return reference
        drawn = rng.random()
        for mode, share in vars(self).items():
            drawn -= share
            if drawn < 0:
                return mode
        return reference
