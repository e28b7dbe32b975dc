"""The authors' checkpoint -> weights with their options, and the same options as a file to validate with."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from ttrd3 import config
from ttrd3.engine import checkpoint
from ttrd3.engine.options import Options
from ttrd3.environment import ROOT
from ttrd3.errors import UserError
from ttrd3.files import replacing, require_free_space
from ttrd3.released.convert import Converted, convert
from ttrd3.released.inventory import Inventory, TextureNet, take_inventory
from ttrd3.released.layout import Variant
from ttrd3.released.read import read_released

SUFFIX = ".safetensors"
# Where the options come from that do not decide what the weights do.
OPTION_FILES: dict[Variant, str] = {"1Net-A": "TTRD3.yml", "1Net-B": "TTRD3-1Net-B.yml", "2Net": "TTRD3-2Net.yml"}

HEADER = """\
# TTRD3-{variant} as the authors released it: weights and behaviour of {source}.
#   ttrd3 val {options} data.val.root=FOLDER
# What the released code does otherwise than the paper or its authors meant is switched on here. Each can be switched
# off, here or on the command line, to see what it does:
#   model.encoder.value_range=unit          the encoder sees [0, 1], not [0.5, 1]
#   model.transfer.normalization=overlap    textures are divided by their true overlap
#   model.transfer.selection=learned        ranks are weighed by the stored chances of K, up to the K below;
#   model.transfer.matches=[5,5,5]          ... with this too by all of them (the authors' code draws K)
"""


@dataclass(frozen=True)
class Import:
    """What was imported, and where it was written."""

    inventory: Inventory
    converted: Converted
    weights: Path
    options: Path


def import_released(source: Path, out: Path, texture_net: TextureNet, overwrite: bool) -> Import:
    """Write `out` and, beside it, OUT.yml; both or neither.

    Args:
        source: The authors' file (model-300.pt).
        out: The weights to write, NAME.safetensors.
        texture_net: `online` as in the authors' test, or `ema`.
        overwrite: Replace what is there.

    Raises:
        UserError: A file that cannot be imported or written, or one that is there already.
    """
    if out.suffix != SUFFIX:
        raise UserError(f"--out: found {out}, expected the name of a file that ends in {SUFFIX}.")
    options_file = out.with_suffix(".yml")
    there = [str(path) for path in (out, options_file) if path.exists()]
    if there and not overwrite:
        raise UserError(f"--out: {' and '.join(there)} exist already. Add --overwrite to replace, or choose another.")
    inventory = take_inventory(read_released(source), source, texture_net)
    converted = convert(inventory)
    options = _options(inventory.variant, converted)
    text = _yaml(inventory, options, out, options_file)
    require_free_space(out.parent, sum(4 * value.numel() for value in converted.state.values()), "the weights")
    # The options file takes its name last, once the weights are there.
    with replacing(options_file) as temporary:
        temporary.write_text(text, encoding="utf-8")
        checkpoint.save_state(out, converted.state, options, inventory.step)
    return Import(inventory, converted, out, options_file)


def _options(variant: Variant, converted: Converted) -> Options:
    """The variant's own option file with what the released behaviour decides."""
    document = config.read_yaml(ROOT / "options" / OPTION_FILES[variant])
    document.data["name"] = f"TTRD3-{variant}-released"
    for section, values in converted.options.items():
        for name, value in values.items():
            former = document.data[section].get(name)
            document.data[section][name] = former | value if isinstance(former, dict) else value
    return config.validate(Options, document)


def _yaml(inventory: Inventory, options: Options, out: Path, options_file: Path) -> str:
    header = HEADER.format(
        variant=inventory.variant, source=inventory.path.name, options=shlex.quote(str(options_file))
    )
    weights = out.resolve()
    # As options understand paths: from the checkout, so that it may be moved with its weights.
    where = weights.relative_to(ROOT) if weights.is_relative_to(ROOT) else weights
    return header + config.to_yaml(options.model_copy(update={"weights": str(where)}))
