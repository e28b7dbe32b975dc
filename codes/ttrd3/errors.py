"""The errors that a user can cause and mend; `python -m ttrd3` shows their text alone and exits with code 2."""


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
