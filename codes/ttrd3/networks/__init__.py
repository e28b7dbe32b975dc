"""Networks: MFAB encoder, STTG and the denoising UNets, composed by `model.TTRD3`; importing it registers all."""

from ttrd3.networks import mfab, small, sttg, variants

__all__ = ["mfab", "small", "sttg", "variants"]
