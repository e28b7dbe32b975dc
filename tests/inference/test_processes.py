"""Several processes at one scene and at many files: the same pixels, every mistake told once."""

import numpy as np
from data.builders import picture, save
from engine.processes import finish, start_together
from inference.conftest import bands_of
from PIL import Image

TILES = ["--tile", "96", "--overlap", "16"]


def together(tmp_path, weights, *words) -> tuple[list[int], str]:
    log = tmp_path / "log"
    arguments = ["upscale", *map(str, words), "--out", str(tmp_path / "out"), "--weights", str(weights), *TILES]
    codes = [finish(process) for process in start_together(log, [*arguments, "--device", "cpu"])]
    return codes, log.read_text()


def require_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Sums in another order, with other numbers of threads, may round one value in ten thousand to the next level."""
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 5e-4


def test_two_processes_make_the_same_scene_and_files(upscaler, weights, tmp_path, scene):
    large = picture(1, 60, 100)
    small = [save(tmp_path / f"{name}.png", picture(n, 16, 16)) for n, name in enumerate("abc")]
    missing = tmp_path / "missing.png"
    codes, log = together(tmp_path, weights, scene(large.transpose(2, 0, 1)), *small, missing)
    assert codes == [11, 11], log
    assert log.count("ttrd3: error: ") == 1
    assert log.count("1 of 5 inputs failed") == 1
    assert "Traceback" not in log
    one = upscaler(tile=96, overlap=16)
    require_same(bands_of(tmp_path / "out" / "scene.tif").transpose(1, 2, 0), one.upscale(large))
    for number, path in enumerate(small):
        expected = one.upscale(picture(number, 16, 16))
        require_same(np.asarray(Image.open(tmp_path / "out" / path.name)), expected)
    assert not list((tmp_path / "out").glob(".*"))


def test_what_fails_in_one_process_fails_in_all(weights, tmp_path, scene):
    path = scene(picture(1, 60, 100).transpose(2, 0, 1))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])  # the last rows are lost: the last tiles of one process
    codes, log = together(tmp_path, weights, path)
    assert codes == [11, 11], log
    assert log.count("ttrd3: error: ") == 1
    assert "truncated or damaged" in log
    assert "Traceback" not in log


def test_options_that_nothing_can_begin_with_are_told_once(weights, tmp_path, scene):
    codes, log = together(tmp_path, weights, scene(picture(1, 60, 100).transpose(2, 0, 1)), "--steps", "5000")
    assert codes == [2, 2], log
    assert log.count("ttrd3: error: ") == 1
