"""What is in a released checkpoint: every key is there once, in its shape, and taken or dropped for a named reason."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ttrd3.errors import CheckpointError
from ttrd3.released.layout import Shape, Variant, diffusion_layout, texture_net_layout

TextureNet = Literal["online", "ema"]

UNET = "ema.ema_model"  # the released test runs the averaged UNet
TEXTURE_NETS: dict[TextureNet, str] = {"online": "refnet", "ema": "ema_ref.ema_model"}  # ... with the online one
NETWORKS = ("model", "ema.online_model", UNET, "refnet", "ema_ref.online_model", "ema_ref.ema_model")
COUNTERS = {"ema.initted", "ema.step", "ema_ref.initted", "ema_ref.step"}
PLAIN = {"step", "opt", "opt_ref", "scaler"}
STATES = {"model", "ema", "refnet", "ema_ref"}  # looked into, key by key

# Why a key is not taken, whichever network it belongs to; the first that matches its full name.
DROPPED = [
    (r"^opt(_ref)?$|^scaler$", "state of the optimisers and of mixed precision"),
    (r"^step$|^ema(_ref)?\.(initted|step)$", "counters of the training"),
    (r"\.vgg19\.", "frozen VGG19 of the perceptual loss"),
    (r"\.model\.TransNet\.", "a second texture net inside the UNet, which nothing calls"),
    (r"\.dwconv\dx\d_1\.|\.MFAM\.down\.2\.2\.|\.k_selector\.temperature$", "layers that nothing calls"),
    (r"\.grid$|^(model|ema\.\w+)\.\w+$", "buffers, which follow from the options (agreement checked)"),
]
NOT_CHOSEN = [
    (r"^(model|ema\.online_model)\.", "the UNet that is not averaged"),
    (r"^(refnet|ema_ref\.\w+)\.", "the texture nets that were not chosen"),
]
SHOWN = 10  # names of each kind of mistake in a message; more would hide the others


@dataclass(frozen=True)
class Fate:
    """What became of a group of keys."""

    taken: bool
    what: str
    keys: int
    values: int


@dataclass(frozen=True)
class Inventory:
    """A released checkpoint, accounted for.

    Attributes:
        networks: Tensors under their released names, by network (`ema.ema_model`, `refnet`, ...).
        texture_net: Which of them is the texture net that was chosen.
        fates: What became of every key of the file.
    """

    path: Path
    variant: Variant
    step: int
    networks: dict[str, dict[str, Tensor]]
    texture_net: str
    fates: list[Fate]


def take_inventory(content: Any, path: Path, texture_net: TextureNet) -> Inventory:
    """Account for the content of a file.

    Args:
        content: What `read_released` returned.
        path: For messages.
        texture_net: `online` as in the released test, or `ema` for the averaged one.

    Raises:
        CheckpointError: Another program's file, no averaged weights, or keys that are unknown, missing, of another
            shape or given twice; lists them.
    """
    chosen = TEXTURE_NETS[texture_net]
    _require_kind(content, path)
    entries, twice = _flatten(content)
    _require_networks(entries, path, chosen)
    variant = _variant(entries, path)
    present = [network for network in NETWORKS if any(key.startswith(network + ".") for key in entries)]
    expected = _expected(variant, present)
    _require_layout(entries, expected, twice, path, variant)
    networks = {
        network: {key[len(network) + 1 :]: value for key, value in entries.items() if key.startswith(network + ".")}
        for network in present
    }
    return Inventory(path, variant, entries["step"], networks, chosen, _fates(entries, chosen))


def without_wrappers(key: str) -> str:
    """A name without the `module.` that DataParallel and DistributedDataParallel put before what they wrap."""
    return ".".join(part for part in key.split(".") if part != "module")


def _require_kind(content: Any, path: Path) -> None:
    """Tell other programs' files apart by what stands at the top."""
    expected = "Expected the authors' whole checkpoint: step, model, opt, ema, scaler, refnet, opt_ref, ema_ref"
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}. {expected}.")
    names = [str(key) for key in content]
    if "refnet" in names or "ema_ref" in names:
        return
    if {"model", "ema"} & set(names):
        raise CheckpointError(
            f"{path}: is a checkpoint of RDDM or of another code built on it ({', '.join(names)}): it has no texture "
            f"net (refnet), so no TTRD3. {expected}."
        )
    found = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    raise CheckpointError(f"{path}: is no checkpoint of TTRD3 (at its top: {found or 'nothing'}). {expected}.")


def _flatten(content: dict) -> tuple[dict[str, Any], list[str]]:
    """{"ema.ema_model.alphas": tensor, ...} without wrappers' prefixes, and the names that this gave twice."""
    entries: dict[str, Any] = {}
    twice = []
    for part, value in content.items():
        looked_into = isinstance(value, dict) and part in STATES
        pairs = value.items() if looked_into else [("", value)]
        for key, entry in pairs:
            name = without_wrappers(f"{part}.{key}" if looked_into else str(part))
            if name in entries:
                twice.append(name)
            entries[name] = entry
    return entries, twice


def _require_networks(entries: dict[str, Any], path: Path, chosen: str) -> None:
    for network, what in ((UNET, "averaged (EMA) UNet"), (chosen, "texture net that was asked for")):
        if not any(key.startswith(network + ".") for key in entries):
            choice = " Choose the other with --texture-net, or use" if network == chosen else " Use"
            raise CheckpointError(
                f"{path}: holds no {what} (no key begins with {network}), which the import takes."
                f"{choice} the whole checkpoint as the authors published it."
            )


def _variant(entries: dict[str, Any], path: Path) -> Variant:
    """The structure shows in a name that only one variant has."""
    for sign, variant in (("unet1.", "2Net"), ("ups_no_skip.", "1Net-B"), ("ups.", "1Net-A")):
        if any(key.startswith(f"{UNET}.model.{sign}") for key in entries):
            return variant
    found = ", ".join([key for key in entries if key.startswith(UNET + ".")][:3])
    raise CheckpointError(
        f"{path}: its UNet is none of TTRD3-1Net-A, TTRD3-1Net-B and TTRD3-2Net (it has {found}, ...). "
        "Other RDDM-based networks cannot be imported."
    )


def _expected(variant: Variant, present: list[str]) -> dict[str, Shape | None]:
    """Shape of each key that must be there; None: not a tensor of a network."""
    unet, texture_net = diffusion_layout(variant), texture_net_layout()
    expected: dict[str, Shape | None] = {"step": None}
    for network in present:
        layout = texture_net if "ref" in network else unet
        expected |= {f"{network}.{key}": shape for key, shape in layout.items()}
    return expected


def _require_layout(
    entries: dict[str, Any],
    expected: dict[str, Shape | None],
    twice: list[str],
    path: Path,
    variant: Variant,
) -> None:
    """Refuse with a list of everything that is not as in a released file."""
    known = expected.keys() | COUNTERS | PLAIN
    mistakes = {
        "unknown": [key for key in entries if key not in known],
        "missing": [key for key in expected if key not in entries],
        "given twice, with and without module.": twice,
        "of another kind or shape": [
            f"{key} {_described(value)}, expected {_expectation(key, expected.get(key))}"
            for key, value in entries.items()
            if key in known and not _fits(key, value, expected.get(key))
        ],
    }
    if any(mistakes.values()):
        listed = "\n".join(_listed(kind, names) for kind, names in mistakes.items() if names)
        raise CheckpointError(
            f"{path}: looks like TTRD3-{variant}, but is not as released; keys that are\n{listed}\n"
            "Only checkpoints of the released networks, unchanged, can be imported."
        )


def _fits(key: str, value: Any, shape: Shape | None) -> bool:
    if key == "step":
        return isinstance(value, int) and value >= 0
    if key in COUNTERS:
        return not isinstance(value, Tensor) or value.numel() == 1
    if key in PLAIN:
        return True
    return isinstance(value, Tensor) and value.is_floating_point() and tuple(value.shape) == shape


def _expectation(key: str, shape: Shape | None) -> str:
    if key == "step":
        return "a number of steps"
    return "one number" if key in COUNTERS else f"{shape} of floating-point numbers"


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return repr(value)[:40]


def _listed(kind: str, names: list[str]) -> str:
    more = f"\n    ... and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"  {kind} ({len(names)}):\n    " + "\n    ".join(names[:SHOWN]) + more


def _fates(entries: dict[str, Any], chosen: str) -> list[Fate]:
    """Keys and values by what became of them, what is taken first."""
    taken = [
        (f"^{re.escape(UNET)}\\.", f"the averaged UNet ({UNET})"),
        (f"^{re.escape(chosen)}\\.", f"the texture net, encoder and STTG ({chosen})"),
    ]
    rules = [*DROPPED, *taken, *NOT_CHOSEN]
    found: dict[str, list[Any]] = {what: [] for _, what in [*taken, *NOT_CHOSEN, *DROPPED]}
    for key, value in entries.items():
        found[next(what for pattern, what in rules if re.search(pattern, key))].append(value)
    uses = {what for _, what in taken}
    return [
        Fate(what in uses, what, len(values), sum(v.numel() for v in values if isinstance(v, Tensor)))
        for what, values in found.items()
        if values
    ]
