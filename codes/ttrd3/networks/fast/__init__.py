"""The same networks for sampling: folded weights, what does not change between steps computed once."""

from ttrd3.networks.fast.model import FastModel, prepare

__all__ = ["FastModel", "prepare"]
