"""From options to metrics: a section of YAML, or the words of a command line."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import create_model

from ttrd3 import config
from ttrd3.metrics.base import METRICS, Described
from ttrd3.registry import Section


def parse_metric(word: str) -> dict[str, Any]:
    """A metric on a command line, `NAME[,option=value...]` -> the options that it sets; values are YAML.

    Raises:
        ConfigError: No such metric or option, an ill-typed value, or no `option=value` after the name.
    """
    name, *settings = word.split(",")
    document = config.Document({"metric": {"type": name}}, f"--metrics {word}")
    config.override(document, [f"metric.{setting}" for setting in settings])
    line = create_model("Line", __base__=Section, metric=(METRICS.options, ...))
    return config.validate(line, document).metric.model_dump(exclude_unset=True)


def build_metric(
    section: Section | Mapping[str, Any], at: str, device: torch.device | str = "cpu", *, download: bool = True
) -> Described:
    """The metric of a section `type: NAME` with its options.

    Args:
        section: Validated options, or a mapping, which is validated here.
        at: Where it stands, for messages.
        device: Where networks work.
        download: Whether weights that are not there may be downloaded. Without them the metric is marked unavailable.

    Raises:
        ConfigError: Unknown metric or option.
        UserError: A weights file that was named and cannot be used.
    """
    kind = section.type if isinstance(section, Section) else section.get("type")
    known = inspect.signature(METRICS[kind]).parameters if kind in METRICS else {}
    runtime = {"device": device, "download": download}
    return METRICS.build(section, at, **{name: value for name, value in runtime.items() if name in known})
