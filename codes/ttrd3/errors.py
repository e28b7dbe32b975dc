"""The errors that a user can cause and mend; `python -m ttrd3` shows their text alone and exits with code 2."""

import re

# torch's words on CUDA and on the CPU: neither has an exception class of its own on every device. The last are those of
# oneDNN, which says the same of a primitive (not of its descriptor) for no other reason.
_OUT_OF_MEMORY = re.compile("out of memory|can't allocate memory|ALLOC_FAILED|could not create a (memory|primitive$)")


class UserError(Exception):
    """A mistake the user can mend.

    The text says what was wrong and where, what was found, what was expected, and what to do.
    """


class ConfigError(UserError):
    """An option that is unknown, missing, ill-typed or impossible together with another."""


class DataError(UserError):
    """An image, folder or manifest that cannot be used; the text names the file."""


class CheckpointError(UserError):
    """A weights or checkpoint file that is missing, damaged, foreign, or of another architecture."""


class DeviceError(UserError):
    """A device that was asked for and is not there."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whatever device."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None
    )
