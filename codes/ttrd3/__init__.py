"""TTRD3: reference-based x4 super-resolution of remote-sensing images by dual diffusion (arXiv:2504.13026)."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Upscaler", "__version__"]


def __getattr__(name: str) -> Any:
    """`ttrd3.Upscaler`, imported when it is asked for, so that `import ttrd3` does not wait for torch."""
    if name == "Upscaler":
        from ttrd3.inference.upscaler import Upscaler

        return Upscaler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
