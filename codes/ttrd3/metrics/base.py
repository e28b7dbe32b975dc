"""What every metric is, and the checks and conversions that they share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from ttrd3.errors import DataError
from ttrd3.registry import Registry

METRICS = Registry("metric")

PEAK = 255  # 8-bit images; the luma of `comparable` is judged against the same peak, as the field does
LUMA = np.array([65.738, 129.057, 25.064]) / 256  # ITU-R BT.601, studio swing

Channels = Literal["rgb", "y"]
Border = Annotated[int, Field(ge=0)]


class Described(ABC):
    """What tables and files say of a metric.

    Attributes:
        name: Key in `results.json` and column in `per_image.csv`. It tells variants apart ("psnr", "psnr_y").
        unit: "dB", or empty for a pure number.
        higher_is_better: Whether a larger value is a better image.
        decimals: How many decimals tables show; files hold full precision.
        unavailable: Why the metric cannot be computed on this machine and what mends that; None where it can. A metric
            that is not available must not be called; it is shown as such instead of a number.
    """

    name: str
    unit: str
    higher_is_better: bool
    decimals: int
    unavailable: str | None = None

    @abstractmethod
    def protocol(self) -> dict[str, str | int]:
        """Everything that two people must agree on to get the same number; printed under every table."""


class Metric(Described):
    """A number for one super-resolved image against its truth.

    Attributes:
        nodata: What it does about pixels that do not count, in words; said in the protocol where there are such.
    """

    nodata: str

    @abstractmethod
    def __call__(self, sr: np.ndarray, hr: np.ndarray, valid: np.ndarray | None = None) -> float:
        """Compare SR with HR, both (H, W, 3) uint8.

        Args:
            sr: The super-resolved image.
            hr: Its truth.
            valid: bool (H, W), the pixels that count; None: all.

        Raises:
            DataError: The two are not 8-bit RGB of one size, or too small for the metric, or too little of them counts.
        """


@dataclass(frozen=True)
class SetValue:
    """What a set metric found.

    Attributes:
        value: The number; None where there are too few images to compute it at all.
        spread: Its standard deviation, where the metric estimates one.
        warning: Why the number must not be quoted as it is; None where it may.
    """

    value: float | None
    spread: float | None = None
    warning: str | None = None


class Extractor(ABC):
    """What a set metric keeps of an image.

    Attributes:
        key: Two extractors of one key give the same features, so that each image passes through one of them only.
    """

    key: str

    @abstractmethod
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Features (D,) float32 of an image (H, W, 3) uint8."""


class SetMetric(Described):
    """A number for a whole set of super-resolved images against the set of their truths.

    It holds no state: features of single images can be gathered from several processes in any order.

    Attributes:
        extractor: Where its features come from; None where the metric is not available.
    """

    extractor: Extractor | None

    @abstractmethod
    def compute(self, sr: np.ndarray, hr: np.ndarray) -> SetValue:
        """Compare the features of all SR images with those of all HR images, both (n, D), n >= 1."""


def to_tensor(image: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """uint8 (H, W, 3) -> float32 (1, 3, H, W) in [0, 1] on `device`."""
    return torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None].float() / PEAK


def check_pair(sr: np.ndarray, hr: np.ndarray) -> None:
    """Refuse what is not a pair of 8-bit RGB images of one size.

    Raises:
        DataError: Says which image, what was found and what was expected.
    """
    for name, image in (("SR", sr), ("HR", hr)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DataError(
                f"{name} image to measure: found {image.dtype} of shape {image.shape}, expected uint8 (H, W, 3). "
                "Metrics compare 8-bit RGB: convert the image to it first."
            )
    if sr.shape != hr.shape:
        raise DataError(
            f"SR and HR image differ in size: SR is {_size(sr)}, HR is {_size(hr)} (width x height). "
            "Compare an image with its own truth; SR must be x4 the size of its LR."
        )


def comparable(
    sr: np.ndarray, hr: np.ndarray, channels: Channels, border: int, least: int
) -> tuple[np.ndarray, np.ndarray]:
    """What is compared: the checked pair without its border, as it is or as luma.

    Args:
        sr: (H, W, 3) uint8.
        hr: (H, W, 3) uint8.
        channels: `rgb`, or `y` for BT.601 luma in [16, 235], float64 and not rounded.
        border: Pixels cut off at each side.
        least: The smallest height and width that the metric can work on.

    Returns:
        Two arrays (H - 2 border, W - 2 border, 3) uint8, or the same without channels as float64.

    Raises:
        DataError: Not a pair, or less than `least` pixels remain.
    """
    check_pair(sr, hr)
    require_size(hr, least, border)
    sr, hr = without_border(sr, border), without_border(hr, border)
    return (sr, hr) if channels == "rgb" else (sr @ LUMA + 16, hr @ LUMA + 16)


def require_size(image: np.ndarray, least: int, border: int = 0) -> None:
    """Refuse an image of which less than `least` pixels remain in height or width without its border.

    Raises:
        DataError: Names the size and the smallest one.
    """
    if min(image.shape[:2]) - 2 * border < least:
        raise DataError(
            f"an image of {_size(image)} is too small to measure: at least {least + 2 * border} x {least + 2 * border} "
            f"pixels are needed with a border of {border}. Use larger images or a smaller border."
        )


def as_in_truth(sr: np.ndarray, hr: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """SR with HR's pixels where they do not count, for metrics that look at whole images only."""
    return sr if valid is None else np.where(valid[..., None], sr, hr)


def require_some(counts: np.ndarray, what: str) -> None:
    """Refuse an image of which nothing counts.

    Raises:
        DataError: None of `counts` (bool) is true; `what` says what they are.
    """
    if not counts.any():
        raise DataError(
            f"no {what} of the image is free of pixels without data: there is nothing to measure. Measure whole tiles "
            "(data.val.crop=null) with a smaller border, or prepare the data with a smaller --max-nodata."
        )


def without_border(image: np.ndarray, border: int) -> np.ndarray:
    """(H, W, ...) -> (H - 2 border, W - 2 border, ...)."""
    height, width = image.shape[:2]
    return image[border : height - border, border : width - border]


def channels_text(channels: Channels) -> str:
    """The channels as tables call them."""
    return "RGB" if channels == "rgb" else "BT.601 luma"


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
