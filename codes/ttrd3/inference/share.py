"""Processes that share the work: who this one is and how it hears from the others, as plain values handed down."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ttrd3.errors import UserError


@dataclass(frozen=True)
class Share:
    """This process's share of the work.

    Attributes:
        rank: Its number, 0 to size - 1.
        size: How many processes there are.
        gather: What each process gives, by rank, in all of them; all must call it at the same point.
    """

    rank: int
    size: int
    gather: Callable[[Any], list[Any]]

    def together(self, work: Callable[[], None]) -> None:
        """Do `work` in every process; where it fails in one of them, it fails in all.

        Raises:
            UserError: A mistake that any process met, told in all of them.
        """
        problem: Exception | None = None
        try:
            work()
        except (UserError, OSError, MemoryError, RuntimeError) as error:
            if self.size == 1:
                raise
            problem = error
        if self.size > 1:
            found = [error for error in self.gather(problem) if error is not None]
            if found:
                raise found[0]


ALONE = Share(0, 1, lambda found: [found])
