"""Retrieved references in training and validation, and the descriptor of the trained encoder."""

import json
import shutil

import numpy as np
import pytest
import torch

from ttrd3.__main__ import main
from ttrd3.data.degrade import degrade
from ttrd3.data.descriptors import StatisticsDescriptor
from ttrd3.data.images import read_rgb
from ttrd3.data.index import read_header, read_index
from ttrd3.data.indexing import update_index
from ttrd3.engine import checkpoint
from ttrd3.engine.build import build_dataset, build_model
from ttrd3.engine.trainer import Trainer
from ttrd3.engine.validation import validate_weights
from ttrd3.environment import ROOT
from ttrd3.errors import CheckpointError, DataError
from ttrd3.inference.describe import EncoderDescriptor

NEON = ROOT / "samples" / "neon"
CPU = torch.device("cpu")


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "neon.index"
    update_index(NEON, path, StatisticsDescriptor(), tile=256, stride=256, workers=1)
    return path


@pytest.fixture
def weights(tiny, tmp_path):
    """Of a tiny run of one step."""
    trainer = Trainer(tiny("train.steps=1", "train.schedule=constant", "name=encoder", "val.pictures=0"))
    trainer.run()
    return trainer.folder.weights


def retrieved(library, *more):
    settings = [
        f"data.{part}.{option}" for part in ("train", "val") for option in ("reference=retrieved", f"index={library}")
    ]
    return [*settings, *more]


def test_trains_and_validates_with_several_retrieved_references(tiny, library):
    options = tiny(*retrieved(library, "data.train.top=4", "data.train.references=2", "data.val.references=3"))
    trainer = Trainer(options)
    found = trainer.run()
    folder = trainer.folder.validation("step-00000004")
    results = json.loads((folder / "results.json").read_text())
    assert results["protocol"]["reference"] == "retrieved"
    assert results["protocol"]["references"] == 3
    lines = (folder / "per_image.csv").read_text().splitlines()
    assert all(line.count("ref/hr/") + line.count("train/hr/") == 3 for line in lines[1:])
    assert len(list((folder / "pictures").glob("*.png"))) == 2  # one and the overview
    again, where = validate_weights(options)
    assert "retrieved" in where.name
    assert "3references" in where.name
    assert again.results.overall() == found.results.overall()
    fewer, _ = validate_weights(tiny(*retrieved(library)))
    assert fewer.results.overall()["ttrd3"] != found.results.overall()["ttrd3"]
    assert fewer.results.overall()["bicubic"] == found.results.overall()["bicubic"]


def test_validation_gets_the_best_whatever_the_seed(tiny, library):
    def names(seed, *more):
        dataset = build_dataset(tiny(*retrieved(library, *more)).data.val, seed)
        samples = [dataset.sample(number, np.random.default_rng(seed)) for number in range(len(dataset))]
        return {sample["name"]: sample["reference_name"] for sample in samples}

    everything = names(7, "data.val.limit=null")
    for seed in range(3):
        assert names(seed).items() <= everything.items()


def test_a_relative_index_is_found_from_any_folder(tiny, library, monkeypatch):
    own = tiny(*retrieved(library.name), f"data.val.root={NEON}").data.val
    share = tiny(f"data.val.index={library.name}", "data.val.retrieved=1.0", f"data.val.root={NEON}").data.val
    monkeypatch.setattr("ttrd3.paths.ROOT", library.parent)
    for section in (own, share):
        assert build_dataset(section, 0).sample(0, np.random.default_rng(0))["has_reference"]


def test_the_encoders_descriptor_is_the_moments_of_its_features(weights, tiny):
    descriptor = EncoderDescriptor(weights, CPU)
    tiles = [degrade(read_rgb(path)) for path in sorted((NEON / "val" / "hr").rglob("*.png"))[:2]]
    found = descriptor(np.stack(tiles))
    options = tiny()
    model = build_model(options.model, options.diffusion)
    checkpoint.load_weights(model, weights, options)
    with torch.inference_mode():
        for row, tile in zip(found, tiles, strict=True):
            levels = model.encoder(torch.tensor(tile).permute(2, 0, 1)[None].float() / 255)
            expected = [moment for x in levels for moment in (x.mean((2, 3)), x.flatten(2).std(2, correction=0))]
            np.testing.assert_allclose(row, torch.cat(expected, 1)[0], rtol=1e-5, atol=1e-6)
    assert np.array_equal(found[:1], descriptor(tiles[0][None]))


def test_an_index_by_the_encoder_is_used_with_the_encoder(weights, tiny, tmp_path, capsys):
    path = tmp_path / "mfab.index"
    words = ["index", "--library", NEON, "--out", path, "--weights", weights, "--device", "cpu", "--workers", "1"]
    assert main([*map(str, words)]) == 0
    assert read_header(path).kind.startswith("mfab-1 ")
    assert read_header(path).standardized
    index = read_index(path)
    assert index.width == 2 * (8 + 8 + 8)
    descriptors = np.concatenate(list(index.descriptors()))
    scaled = descriptors / descriptors.std(0)
    dataset = build_dataset(tiny(*retrieved(path)).data.val, 0, CPU)
    describe = EncoderDescriptor(weights, CPU)
    for number, tile in enumerate(dataset.tiles):
        query = describe(degrade(read_rgb(tile.hr))[None])[0] / descriptors.std(0)
        nearest = np.linalg.norm(scaled - query, axis=1).argmin()
        assert dataset.sample(number, np.random.default_rng(0))["reference_name"] == index.name(nearest)
    build_dataset(tiny(f"data.train.index={path}", "data.train.retrieved=0.5").data.train, 0, CPU)  # for a share, too

    kept = tmp_path / "kept"
    shutil.copy(weights, kept)
    Trainer(tiny("train.steps=2", "train.schedule=constant", "name=encoder", "val.pictures=0")).run()
    with pytest.raises(DataError, match=r"mfab.index: was made with .*holds other weights now\. Bring them back"):
        build_dataset(tiny(*retrieved(path)).data.val, 0, CPU)
    weights.unlink()
    with pytest.raises(DataError, match=r"weights that cannot be used now: .*no such file.*--weights FILE` again"):
        build_dataset(tiny(*retrieved(path)).data.val, 0, CPU)
    shutil.copy(kept, weights)
    build_dataset(tiny(*retrieved(path)).data.val, 0, CPU)


def test_weights_that_are_none(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="is no safetensors file"):
        EncoderDescriptor(tmp_path / "a.safetensors", CPU)
