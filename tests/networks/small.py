"""Options of small networks of every kind."""

from collections.abc import Sequence

ENCODER_WIDTHS = (8, 8, 16)


def small_encoder(levels: int = 3, **options) -> dict:
    """An encoder with the last `levels` of three levels."""
    return {"type": "MFAB", "widths": list(ENCODER_WIDTHS[-levels:]), "hidden": 4} | options


def small_transfer(levels: int = 3, **options) -> dict:
    """K = 5 at each level."""
    return {"type": "STTG", "matches": [5] * levels} | options


def small_unet(kind: str, width: int = 8, multipliers: Sequence[int] = (1, 2, 2, 3), **options) -> dict:
    """A UNet of these levels; S has those from the third on, the quarter size, and two at least.

    Heights and widths are multiples of 8 for four levels.
    """
    if kind != "S":
        return {"type": kind, "width": width, "multipliers": list(multipliers)} | options
    widths = [width * multiplier for multiplier in [*multipliers[2:], 2][: max(2, len(multipliers) - 2)]]
    blocks = [1, 2, *[1] * len(widths)]
    return {
        "type": kind,
        "widths": widths,
        "encoder_blocks": blocks[: len(widths)],
        "decoder_blocks": blocks[1 : len(widths)],
    } | options
