"""The best validation of a run by a named metric, read from what the validations left: nothing more to save."""

import json
from pathlib import Path
from typing import Any

from ttrd3.engine.run_folder import RunFolder
from ttrd3.errors import ConfigError, DataError
from ttrd3.metrics.base import Metric
from ttrd3.reports.runs import PROTOCOL_OF_TABLES

METHOD = "ttrd3"
_APART = {*PROTOCOL_OF_TABLES, "weights", "training_steps"}  # of a protocol, what says nothing of how it was made


class Best:
    """Which validated step is best, and whether training should end because nothing has become better for long.

    Validations of other data, references or sampling than the newest's (a run may be resumed with others) do not count.

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
        return _earliest_best(scores) if scores else None

    def is_exhausted(self, now: int) -> bool:
        """Whether `patience` validations up to `now` have come and gone since the best one."""
        if self.patience is None:
            return False
        scores = self._scores(now)
        return bool(scores) and sum(step > _earliest_best(scores) for step in scores) >= self.patience

    def _scores(self, now: int) -> dict[int, float]:
        """Goodness by step, the higher the better, of the validations that were made as the newest was."""
        if self.metric is None:
            return {}
        sign = 1 if self.metric.higher_is_better else -1
        made, values = {}, {}
        for step, path in self.folder.validations().items():
            if step <= now:
                made[step], values[step] = self._read(path)
        return {step: sign * value for step, value in values.items() if made[step] == made[max(made)]}

    def _read(self, path: Path) -> tuple[dict[str, Any], float]:
        """How a validation was made, as far as the metric depends on it, and what it found."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            value = float(document[METHOD][self.metric.name])
            protocol = document.get("protocol", {})
            own = {"metrics": protocol.get("metrics", {}).get(self.metric.name)}
            # What is off is what an older version did not know.
            made = {name: found for name, found in protocol.items() if found and name not in _APART}
            return made | own, value
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: does not tell {self.metric.name} ({error!r}), which train.best asks for. "
                f"Delete {path.parent}, or set train.best to a metric that every validation of this run has."
            ) from None


def _earliest_best(scores: dict[int, float]) -> int:
    return max(scores, key=lambda step: (scores[step], -step))
