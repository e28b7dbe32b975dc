"""The same networks for sampling: folded weights, what does not change between steps computed once."""

from ttrd3.networks.fast.model import FastModel, bfloat16_pays, prepare

__all__ = ["FastModel", "bfloat16_pays", "prepare"]
