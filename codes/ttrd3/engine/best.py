"""The best validation of a run by a named metric, read from what the validations left: nothing more to save."""

import json
from pathlib import Path

from ttrd3.engine.run_folder import RunFolder
from ttrd3.errors import ConfigError, DataError
from ttrd3.metrics.base import Metric

METHOD = "ttrd3"


class Best:
    """Which validated step is best, and whether training should end because nothing has become better for long.

    Args:
        folder: The run's.
        metrics: Those of the validation.
        name: The metric that decides; None: nothing is best.
        patience: Validations in a row without a better one that end the training; None: no end.
    """

    def __init__(self, folder: RunFolder, metrics: list[Metric], name: str | None, patience: int | None):
        """Find the metric.

        Raises:
            ConfigError: No metric of the validation has that name.
        """
        self.folder = folder
        self.patience = patience
        self.metric = next((metric for metric in metrics if metric.name == name), None)
        if name is not None and self.metric is None:
            known = ", ".join(metric.name for metric in metrics)
            raise ConfigError(f"train.best: found {name!r}, expected a metric of val.metrics: {known}, or null.")

    def step(self, now: int) -> int | None:
        """The best validated step up to `now`, the earliest of equals; None where there is none."""
        scores = self._scores(now)
        return max(scores, key=lambda step: (scores[step], -step)) if scores else None

    def is_exhausted(self, now: int) -> bool:
        """Whether `patience` validations up to `now` have come and gone since the best one."""
        if self.patience is None:
            return False
        scores = self._scores(now)
        return bool(scores) and sum(step > self.step(now) for step in scores) >= self.patience

    def _scores(self, now: int) -> dict[int, float]:
        """Goodness by step, the higher the better."""
        if self.metric is None:
            return {}
        sign = 1 if self.metric.higher_is_better else -1
        return {step: sign * self._value(path) for step, path in self.folder.validations().items() if step <= now}

    def _value(self, path: Path) -> float:
        try:
            return float(json.loads(path.read_text(encoding="utf-8"))[METHOD][self.metric.name])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: does not tell {self.metric.name} ({error!r}), which train.best asks for. "
                f"Delete {path.parent}, or set train.best to a metric that every validation of this run has."
            ) from None
