"""The authors' parameter names -> ours (specification section 6)."""

import re

from torch import Tensor

Rules = list[tuple[str, str]]

# What a module inside a block is called; applied to the rest of a name once its block is found.
BLOCK: Rules = [
    (r"^mlp\.1\.", "time.1."),
    (r"^block([12])\.proj\.", r"block\1.conv."),
    (r"^block([12])\.norm\.", r"block\1.norm."),
    (r"^res_conv\.", "shortcut."),
]
ATTENTION: Rules = [
    (r"^fn\.fn\.to_qkv\.", "qkv."),
    (r"^fn\.fn\.to_out\.0\.", "out.0."),
    (r"^fn\.fn\.to_out\.1\.g$", "out.1.gain"),
    (r"^fn\.fn\.to_out\.(weight|bias)$", r"out.\1"),
    (r"^fn\.norm\.g$", "norm.gain"),
]
TEXTURE_NET: Rules = [
    (r"^MFAM\.first_conv\.", "encoder.first."),
    (r"^MFAM\.down\.([01])\.2\.0\.", r"encoder.downs.\1."),
    (r"^MFAM\.down\.(\d)\.([01])\.project_(in|out)\.", r"encoder.levels.\1.\2.project_\3."),
    (r"^MFAM\.down\.(\d)\.([01])\.dwconv3x3\.", r"encoder.levels.\1.\2.stage1.0."),
    (r"^MFAM\.down\.(\d)\.([01])\.dwconv5x5\.", r"encoder.levels.\1.\2.stage1.1."),
    (r"^MFAM\.down\.(\d)\.([01])\.dwconv7x7\.", r"encoder.levels.\1.\2.stage1.2."),
    (r"^MFAM\.down\.(\d)\.([01])\.attn\.mlp\.", r"encoder.levels.\1.\2.attention.mlp."),
    (r"^MFAM\.down\.(\d)\.([01])\.attn\.conv\.", r"encoder.levels.\1.\2.attention.spatial."),
    (r"^STTG\.global_weight$", "transfer.global_weight"),
    # Ours count from the deepest level, 3, as the matching does.
    (r"^STTG\.se_lv3\.fc\.", "transfer.excitations.0.mlp."),
    (r"^STTG\.se_lv2\.fc\.", "transfer.excitations.1.mlp."),
    (r"^STTG\.se_lv1\.fc\.", "transfer.excitations.2.mlp."),
    (r"^STTG\.ref_pos_lv3\.pos_conv\.", "transfer.positions.0.conv."),
    (r"^STTG\.ref_pos_lv2\.pos_conv\.", "transfer.positions.1.conv."),
    (r"^STTG\.ref_pos_lv1\.pos_conv\.", "transfer.positions.2.conv."),
]
LEVELS = 4


def texture_net_state(released: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The released `refnet` -> (our encoder and transfer parameters, released keys that have no place here)."""
    state, left = {}, []
    for key, value in released.items():
        name = _first_match(TEXTURE_NET, key)
        if name is None:
            left.append(key)
        else:
            state[name] = value
    return state, left


def unet_state(released: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The released diffusion wrapper's state -> (our `unet.*` parameters, released keys that have no place here)."""
    two_nets = any(key.startswith("model.unet1.") for key in released)
    two_decoders = any(key.startswith("model.ups_no_skip.") for key in released)
    state, left = {}, []
    for key, value in released.items():
        if two_nets:
            match = re.match(r"^model\.unet([01])\.(.*)", key)
            number, rest = (match.group(1), match.group(2)) if match else ("", "")
            trunk, decoder = f"trunks.{number}", f"decoders.{number}"
        else:
            rest = key.removeprefix("model.") if key.startswith("model.") else ""
            trunk, (rest, decoder) = "trunk", _decoder_of(rest) if two_decoders else (rest, "decoder")
        name = _unet_name(rest, trunk, decoder)
        if name is None:
            left.append(key)
        else:
            state["unet." + name] = value
    return state, left


def _decoder_of(rest: str) -> tuple[str, str]:
    """1Net-B: which decoder a name belongs to, and the name as 1Net-A would have it."""
    if rest.startswith("ups_no_skip."):
        return rest.replace("ups_no_skip.", "ups."), "decoders.0"  # the residual's
    match = re.match(r"^final_(res_block|conv)_([12])\.(.*)", rest)
    if match:
        return f"final_{match.group(1)}.{match.group(3)}", f"decoders.{int(match.group(2)) - 1}"
    return rest, "decoders.1"


def _unet_name(rest: str, trunk: str, decoder: str) -> str | None:
    """A released name inside one UNet -> ours, or None."""
    if match := re.match(r"^(init_conv|time_mlp)\.(?:([13])\.)?(.*)", rest):
        part, number, end = match.groups()
        return f"{trunk}.encoder.first.{end}" if part == "init_conv" else f"{trunk}.time.mlp.{int(number) - 1}.{end}"
    if match := re.match(r"^downs\.(\d)\.(\d)\.(.*)", rest):
        return _level_part(f"{trunk}.encoder.levels.{match.group(1)}", *match.groups()[1:], last="down")
    if match := re.match(r"^mid_(block[12]|attn)\.(.*)", rest):
        part, end = match.groups()
        if part == "attn":
            return _join(f"{trunk}.middle.attention", _first_match(ATTENTION, end))
        return _join(f"{trunk}.middle.{part}", _first_match(BLOCK, end))
    if match := re.match(r"^up_block([12])\.(.*)", rest):  # 2Net: decoder level 1 stands apart
        return _join(f"{decoder}.levels.{LEVELS - 1}.block{match.group(1)}", _first_match(BLOCK, match.group(2)))
    if match := re.match(r"^up_attn\.(.*)", rest):
        return _join(f"{decoder}.levels.{LEVELS - 1}.attention", _first_match(ATTENTION, match.group(1)))
    if match := re.match(r"^upsample\.(.*)", rest):
        return f"{decoder}.levels.{LEVELS - 1}.up.{match.group(1)}"
    if match := re.match(r"^ups\.(\d)\.(\d)\.(.*)", rest):
        # Released levels count from the deepest (in 2Net from the one above it), ours from full resolution.
        deepest = LEVELS - 2 if decoder.startswith("decoders") and trunk != "trunk" else LEVELS - 1
        return _level_part(f"{decoder}.levels.{deepest - int(match.group(1))}", *match.groups()[1:], last="up")
    if match := re.match(r"^final_(res_block|conv)\.(.*)", rest):
        part, end = match.groups()
        return f"{decoder}.head.{end}" if part == "conv" else _join(f"{decoder}.final", _first_match(BLOCK, end))
    return None


def _level_part(level: str, part: str, end: str, last: str) -> str | None:
    """`0/1` blocks, `2` attention, `3` the change of size."""
    match part:
        case "0" | "1":
            return _join(f"{level}.block{int(part) + 1}", _first_match(BLOCK, end))
        case "2":
            return _join(f"{level}.attention", _first_match(ATTENTION, end))
        case "3":
            return f"{level}.{last}.{end}"
    return None


def _first_match(rules: Rules, name: str) -> str | None:
    for pattern, replacement in rules:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return None


def _join(head: str, tail: str | None) -> str | None:
    return None if tail is None else f"{head}.{tail}"
