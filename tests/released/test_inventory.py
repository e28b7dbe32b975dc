"""Every key of a released checkpoint is accounted for; whatever is not as released is refused with a list."""

import re
from pathlib import Path

import pytest
import torch
from hollow import golden_layout, hollow_checkpoint
from networks.released import VARIANTS

from ttrd3.diffusion.process import DiffusionProcess
from ttrd3.engine.build import build_model
from ttrd3.engine.options import load_options
from ttrd3.environment import ROOT
from ttrd3.errors import CheckpointError
from ttrd3.released.convert import convert
from ttrd3.released.inventory import take_inventory, without_wrappers
from ttrd3.released.layout import SCHEDULES, diffusion_layout, texture_net_layout

PATH = Path("model-300.pt")
OPTIONS = {"1Net-A": "TTRD3.yml", "1Net-B": "TTRD3-1Net-B.yml", "2Net": "TTRD3-2Net.yml"}
BUFFERS = 12  # tables of the schedules


def refused(content, texture_net="online") -> str:
    with pytest.raises(CheckpointError) as error:
        convert(take_inventory(content, PATH, texture_net))
    assert str(error.value).startswith("model-300.pt: ")
    return str(error.value)


def under(state: dict, *parts: str) -> dict:
    """`state` with `module.` put before the named beginnings of its keys ("" is every key)."""
    for part in parts:
        state = {re.sub(f"^({part})", r"\1module.", key): value for key, value in state.items()}
    return state


def test_the_layout_is_that_of_the_released_files():
    assert texture_net_layout() == golden_layout("refnet")
    for variant, name in VARIANTS.items():
        assert diffusion_layout(variant) == golden_layout(f"model:{name}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_key_is_taken_or_dropped_for_a_reason(variant):
    content = hollow_checkpoint(variant)
    inventory = take_inventory(content, PATH, "online")
    assert inventory.variant == variant
    assert inventory.step == 300000
    parts = [value if name in ("model", "refnet", "ema", "ema_ref") else [name] for name, value in content.items()]
    assert sum(fate.keys for fate in inventory.fates) == sum(map(len, parts))

    with torch.device("meta"):
        options = load_options([str(ROOT / "options" / OPTIONS[variant]), "model.encoder.block=released"])
        model = build_model(options.model, options.diffusion)
    state = convert(inventory).state
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    # The three rows of the logits are one key of the released file.
    assert sum(fate.keys for fate in inventory.fates if fate.taken) == len(state) - 2
    assert sum(fate.values for fate in inventory.fates if fate.taken) == sum(value.numel() for value in state.values())

    found = {fate.what: fate.keys for fate in inventory.fates if not fate.taken}
    assert found["counters of the training"] == 5
    assert found["state of the optimisers and of mixed precision"] == 3
    assert found["frozen VGG19 of the perceptual loss"] == 3 * 28
    assert found["buffers, which follow from the options (agreement checked)"] == 3 * (BUFFERS + 3)
    assert found["layers that nothing calls"] == 3 * (6 * 3 + 2 + 1)
    assert found.get("a second texture net inside the UNet, which nothing calls", 0) == (
        3 * len(golden_layout("refnet")) if variant == "1Net-B" else 0
    )


def test_k_is_where_the_stored_logits_are_highest_by_level():
    content = hollow_checkpoint()
    content["refnet"]["STTG.k_selector.k_logits"] = torch.eye(5)[[3, 0, 4]]
    content["ema_ref"]["ema_model.STTG.k_selector.k_logits"] = torch.eye(5)[[1, 1, 2]]
    for texture_net, matches in (("online", [4, 1, 5]), ("ema", [2, 2, 3])):
        converted = convert(take_inventory(content, PATH, texture_net))
        assert converted.matches == converted.options["model"]["transfer"]["matches"] == matches
        for level in range(3):
            assert converted.state[f"transfer.k_logits.{level}"].argmax() + 1 == matches[level]


@pytest.mark.parametrize("variant", VARIANTS)
def test_wrappers_prefixes_are_understood_wherever_they_stand(variant):
    plain = convert(take_inventory(hollow_checkpoint(variant), PATH, "online")).state
    content = hollow_checkpoint(variant)
    content["model"] = under(content["model"], "", "module.model.")
    content["ema"] = under(content["ema"], r"online_model\.", r"ema_model\.", r"ema_model\.module\.model\.")
    content["refnet"] = under(content["refnet"], "", r"module\.MFAM\.", r"module\.STTG\.")
    content["ema_ref"] = under(content["ema_ref"], "", r"module\.ema_model\.")
    wrapped = convert(take_inventory(content, PATH, "online")).state
    assert wrapped.keys() == plain.keys()
    assert all(torch.equal(wrapped[name], plain[name]) for name in plain)
    assert without_wrappers("module.model.module.mid_attn.fn") == "model.mid_attn.fn"


def test_what_the_import_does_not_take_may_be_missing_whole():
    content = hollow_checkpoint()
    for part in ("model", "opt", "scaler", "opt_ref", "ema_ref"):
        del content[part]
    content["ema"] = {key: value for key, value in content["ema"].items() if not key.startswith("online_model.")}
    whole = convert(take_inventory(hollow_checkpoint(), PATH, "online")).state
    state = convert(take_inventory(content, PATH, "online")).state
    assert all(torch.equal(state[name], whole[name]) for name in whole)
    message = refused(content, "ema")
    assert "holds no texture net that was asked for (no key begins with ema_ref.ema_model)" in message
    assert "Choose the other with --texture-net" in message


def test_unknown_missing_and_misshapen_keys_are_listed_together():
    content = hollow_checkpoint()
    content["ema"]["ema_model.model.late_block.weight"] = torch.zeros(3)
    content["lr_scheduler"] = {}
    content["opt0"] = {"state": {}}
    del content["refnet"]["STTG.se_lv2.fc.0.bias"]
    del content["model"]["vgg19.slice1.0.bias"]
    content["ema"]["ema_model.model.init_conv.weight"] = torch.zeros(64, 3, 7, 7)
    content["refnet"]["STTG.global_weight"] = torch.tensor(1)
    content["refnet"]["MFAM.first_conv.bias"] = "none"
    message = refused(content)
    assert "looks like TTRD3-1Net-A" in message
    assert "unknown (3):\n    ema.ema_model.model.late_block.weight\n    lr_scheduler\n    opt0\n" in message
    assert "missing (2):\n    model.vgg19.slice1.0.bias\n    refnet.STTG.se_lv2.fc.0.bias\n" in message
    assert "of another kind or shape (3):" in message
    assert "ema.ema_model.model.init_conv.weight (64, 3, 7, 7) of float32, expected (64, 6, 7, 7)" in message
    assert "refnet.STTG.global_weight () of int64, expected () of floating-point" in message
    assert "refnet.MFAM.first_conv.bias 'none', expected (64,)" in message


def test_any_one_missing_or_misshapen_key_is_named():
    for part in ("model", "ema", "refnet", "ema_ref"):
        content = hollow_checkpoint("1Net-B")
        for key in list(content[part])[:: len(content[part]) // 7]:
            if key in ("initted", "step"):
                continue
            value = content[part].pop(key)
            assert f"missing (1):\n    {part}.{key}\n" in refused(content)
            content[part][key] = value[None]
            assert f"{part}.{key} {(1, *value.shape)} of float32, expected" in refused(content)
            content[part][key] = value


def test_a_long_list_is_cut():
    content = hollow_checkpoint()
    content["refnet"] = {"MFAM.first_conv.bias": content["refnet"]["MFAM.first_conv.bias"]}
    message = refused(content)
    assert "missing (97):" in message
    assert "... and 87 more" in message
    assert len(message.splitlines()) < 20


def test_a_key_with_and_without_the_prefix():
    content = hollow_checkpoint()
    content["refnet"]["module.STTG.global_weight"] = torch.tensor(0.2)
    assert "given twice, with and without module. (1):\n    refnet.STTG.global_weight" in refused(content)


@pytest.mark.parametrize("step", [None, -1, "many", torch.tensor(3)])
def test_a_step_that_is_none(step):
    content = hollow_checkpoint()
    content["step"] = step
    assert "expected a number of steps" in refused(content)


def test_files_without_the_averaged_weights():
    content = hollow_checkpoint()
    del content["ema"]
    assert "holds no averaged (EMA) UNet (no key begins with ema.ema_model)" in refused(content)
    content = hollow_checkpoint()
    content["ema"] = {key: value for key, value in content["ema"].items() if not key.startswith("ema_model.")}
    assert "Use the whole checkpoint as the authors published it" in refused(content)


def test_files_of_other_rddm_codes():
    rddm = hollow_checkpoint("2Net")
    for part in ("refnet", "opt_ref", "ema_ref"):
        del rddm[part]
    assert "is a checkpoint of RDDM or of another code built on it (step, model, opt, ema, scaler)" in refused(rddm)
    content = hollow_checkpoint()
    content["ema"] = {"ema_model.alphas": torch.zeros(1000), "ema_model.model.transformer.0.weight": torch.zeros(3)}
    assert "its UNet is none of TTRD3-1Net-A, TTRD3-1Net-B and TTRD3-2Net" in refused(content)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"conv1.weight": torch.zeros(3), "conv1.bias": torch.zeros(3)}, "(at its top: conv1.weight, conv1.bias)"),
        ({"state_dict": {}, "epoch": 3}, "(at its top: state_dict, epoch)"),
        ({}, "(at its top: nothing)"),
        ([1, 2], "holds a list. Expected the authors' whole checkpoint"),
        (torch.zeros(3), "holds a Tensor"),
    ],
)
def test_files_of_other_programs(content, text):
    assert text in refused(content)


@pytest.mark.parametrize(
    ("part", "key", "text"),
    [
        ("ema", "ema_model.alphas", "does not agree with T = 1000 and sum_scale = 0.01"),
        ("ema", "ema_model.posterior_mean_coef2", "does not agree with T = 1000"),
        ("model", "betas2", "does not agree with T = 1000"),
        ("refnet", "STTG.ref_pos_lv2.grid", "does not agree with coordinates from -1 to 1"),
    ],
)
def test_buffers_that_the_options_would_not_give(part, key, text):
    content = hollow_checkpoint()
    content[part][key] = content[part][key].flip(0)
    assert f"{part}.{key} {text}" in refused(content)


def test_the_sum_scale_is_read_from_the_buffers():
    content, process = hollow_checkpoint(), DiffusionProcess(sum_scale=0.25)
    for state, prefix in ((content["model"], ""), (content["ema"], "online_model."), (content["ema"], "ema_model.")):
        state |= {prefix + key: getattr(process, ours) for key, ours in SCHEDULES.items()}
    assert convert(take_inventory(content, PATH, "online")).options["diffusion"]["sum_scale"] == 0.25
    content["ema"]["ema_model.betas2_cumsum"] = torch.full((1000,), float("nan"))
    assert "betas2_cumsum ends at nan, expected the total noise variance" in refused(content)


def test_values_that_are_no_numbers():
    content = hollow_checkpoint()
    content["refnet"]["MFAM.first_conv.bias"] = torch.full((64,), float("inf"))
    assert "1 of 352 tensors hold values that are no finite numbers, as encoder.first.bias" in refused(content)
    content = hollow_checkpoint()
    content["model"]["model.init_conv.bias"] = torch.full((64,), float("nan"))  # not taken: no harm
    assert convert(take_inventory(content, PATH, "online")).state["encoder.first.bias"].isfinite().all()


def test_half_precision_becomes_single():
    content = hollow_checkpoint()
    content["refnet"]["MFAM.first_conv.bias"] = torch.full((64,), 0.5, dtype=torch.float16)
    bias = convert(take_inventory(content, PATH, "online")).state["encoder.first.bias"]
    assert torch.equal(bias, torch.full((64,), 0.5))
    assert bias.dtype == torch.float32
