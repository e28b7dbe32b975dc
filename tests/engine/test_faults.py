"""What stops a training before step 0, or in the middle: one clear message each."""

import pytest
import torch

from ttrd3.engine.trainer import Trainer
from ttrd3.environment import ROOT
from ttrd3.errors import DataError, DeviceError, UserError


def test_cuda_asked_for_and_absent(tiny):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(DeviceError, match=r"device: found cuda, but .* 0 CUDA devices.*device=cpu"):
        Trainer(tiny("device=cuda"))


def test_a_damaged_image_stops_the_run_with_its_name(tiny, tmp_path):
    import shutil

    data = tmp_path / "neon"
    shutil.copytree(ROOT / "samples" / "neon", data)
    victim = sorted((data / "train/hr").rglob("*.png"))[0]
    victim.write_bytes(victim.read_bytes()[:2000])
    for workers in (0, 1):
        with pytest.raises(DataError, match=victim.name) as error:
            Trainer(tiny(f"data.train.root={data}", f"train.workers={workers}", "train.batch_size=11")).run()
        assert "Traceback" not in str(error.value)
        assert not (tmp_path / "runs").exists()  # found before step 0: nothing was written


def test_an_impossible_crop_fails_before_step_0(tiny, tmp_path):
    with pytest.raises(DataError, match="multiples of"):
        Trainer(tiny("data.train.crop=36", "model.unet.multipliers=[1,1,1,1]")).run()
    assert not (tmp_path / "runs").exists()


def test_output_that_cannot_be_written(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"output: .*cannot be written.*Set output to a folder that can be"):
        Trainer(tiny(f"output={tmp_path / 'file'}")).run()


def test_too_little_disk(tiny, monkeypatch):
    """The free space that the system reports is the one thing replaced: filling a disk is not for a test."""
    import shutil

    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"0\.00 MB free, but keeping checkpoints needs about"):
        Trainer(tiny())


@pytest.mark.parametrize(
    ("settings", "images"),
    [(("val.save_images=true", "val.pictures=1"), 3 + 10), (("val.save_images=false", "val.pictures=0"), 0)],
)
def test_room_for_a_validation_before_step_0(tiny, tmp_path, monkeypatch, settings, images):
    """What is asked for is what will be written, of the images' own size, and nothing where nothing is."""
    import shutil

    trainer, usage = Trainer(tiny("train.steps=1", *settings)), shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=images * 64 * 64 * 3 - 1))
    if images:
        with pytest.raises(UserError, match=r"0\.16 MB free, but validation needs about 0\.16 MB"):
            trainer.run()
        assert not (tmp_path / "runs").exists()
    else:
        trainer.validator.require_space(tmp_path)
