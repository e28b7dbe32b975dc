"""The validations that the reports are tested with."""

from reports.conftest import copied, validations

__all__ = ["copied", "validations"]
