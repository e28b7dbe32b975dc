"""How relative paths in options are understood, so that every command works from any working directory."""

from pathlib import Path

from ttrd3.environment import ROOT


def input_path(text: str) -> Path:
    """A file or folder to read: relative to the working directory if it is there, else to the checkout."""
    path = Path(text).expanduser()
    return path if path.is_absolute() or path.exists() or not (ROOT / path).exists() else ROOT / path


def output_path(text: str) -> Path:
    """A folder to write: relative to the checkout, so that training and validation meet in the same place."""
    path = Path(text).expanduser()
    return path if path.is_absolute() else ROOT / path
