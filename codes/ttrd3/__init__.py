"""TTRD3: reference-based x4 super-resolution of remote-sensing images by dual diffusion (arXiv:2504.13026)."""

__version__ = "0.1.0"
