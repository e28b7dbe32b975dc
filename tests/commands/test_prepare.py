"""`ttrd3 prepare` as users run it: a process that can be killed, interrupted and started again."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data.rasters import write_raster
from helpers import listen_to_ctrl_c
from PIL import Image

from ttrd3.__main__ import main
from ttrd3.data.layout import find_tiles
from ttrd3.errors import DataError

CODES = Path(__file__).resolve().parents[2] / "codes"
IMAGES, TILES_EACH = 30, 9


@pytest.fixture
def raw(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        path = tmp_path / "raw" / f"class{number % 3}" / f"image{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (192, 192, 3), dtype=np.uint8)).save(path)
    return tmp_path / "raw"


def words(raw: Path, out: Path, *more: str) -> list[str]:
    return ["prepare", "--source", str(raw), "--out", str(out), "--tile", "64", *more]


def start(raw: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "ttrd3", *words(raw, out, "--workers", "2")]
    environment = {**os.environ, "PYTHONPATH": str(CODES)}
    # A session of its own, so that a signal reaches it and its workers as Ctrl-C in a terminal does, and not the tests.
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=listen_to_ctrl_c,
    )  # fmt: skip


def wait_for_tiles(out: Path, process: subprocess.Popen) -> list[Path]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if len(tiles := list(out.glob("*/hr/*/*.png"))) >= 5:
            return tiles
        time.sleep(0.01)
    raise AssertionError(f"no tiles: {process.communicate()[1]}")


def living(group: int) -> list[str]:
    """Processes of a process group that are no zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(process_group) == group and state != "Z":
            found.append(stat.parent.name)
    return found


def content(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def finish_and_compare(raw: Path, out: Path, kept: dict[Path, int]) -> None:
    """The same command ends the work, keeps the tiles of `kept`, and all is as if it had never been stopped."""
    assert main(words(raw, out)) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert main(words(raw, out.with_name("whole"))) == 0
    assert content(out) == content(out.with_name("whole"))
    assert len(list(out.glob("*/hr/*/*.png"))) == IMAGES * TILES_EACH


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for living processes in /proc")
def test_killed_in_the_middle_leaves_no_worker_and_resumes(raw, tmp_path):
    out = tmp_path / "out"
    process = start(raw, out)
    wait_for_tiles(out, process)
    process.kill()  # the parent alone, as the kernel does when memory is short
    process.wait()  # not communicate: a worker left behind would hold the pipe
    deadline = time.monotonic() + 10
    while living(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = living(process.pid)
    for worker in left:
        os.kill(int(worker), signal.SIGKILL)
    process.stderr.close()
    assert not left
    assert not (out / "manifest.json").exists()
    with pytest.raises(DataError, match="has not finished"):
        find_tiles(out, "train")

    half = out / "train" / "hr" / "class0" / ".image000_0000_0000.png.1.partial"
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_bytes(b"half")
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/hr/*/*.png")}
    assert len(kept) < IMAGES * TILES_EACH
    for path in kept:
        Image.open(path).load()
    finish_and_compare(raw, out, kept)


def test_ctrl_c_leaves_whole_files_and_says_how_to_go_on(raw, tmp_path):
    out = tmp_path / "out"
    process = start(raw, out)
    wait_for_tiles(out, process)
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"of {IMAGES} images; run the same command again to go on" in message
    assert "Traceback" not in message
    assert not list(out.rglob("*.partial"))
    assert not (out / "manifest.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*/hr/*/*.png")}
    assert 5 <= len(kept) < IMAGES * TILES_EACH
    finish_and_compare(raw, out, kept)


def test_prints_counts_and_the_lines_for_the_options(raw, tmp_path, capsys):
    (tmp_path / "val.txt").write_text("class0/*\n")
    out = tmp_path / "out"
    assert main(words(raw, out, "--val-list", str(tmp_path / "val.txt"), "--test", "0", "--workers", "1")) == 0
    lines = capsys.readouterr().out.splitlines()
    table = {line.split()[0]: line.split()[1:] for line in lines[:5]}
    assert table == {
        "tiles": ["train", "val", "test", "ref"],
        "class0": ["0", "90", "0", "0"],
        "class1": ["90", "0", "0", "0"],
        "class2": ["90", "0", "0", "0"],
        "total": ["180", "90", "0", "0"],
    }
    assert f"    root: {out}" in lines
    assert lines[lines.index("data:") + 1] == "  train:"

    assert main(words(raw, out, "--val-list", str(tmp_path / "val.txt"), "--test", "0")) == 0
    assert "already prepared, nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--workers", "0"], "--workers: found 0"),
        (["--tile", "30"], "--tile: found 30"),
        (["--val-list", "absent.txt"], "--val-list: absent.txt cannot be read"),
        (["--paired"], "no hr/ and ref/ folders"),
        (["--bands", "4,3"], "--bands: found '4,3', expected the numbers of the red, green and blue band"),
        (["--scale", "divide:0"], "--scale: found 'divide:0', expected none, divide:N"),
        (["--max-nodata", "50"], "--max-nodata: found 50, expected a share"),
        (["--scale", "divide:10000"], "image000.png: not a TIFF, but --bands and --scale say how TIFFs are read"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(raw, tmp_path, capsys, more, text):
    assert main(words(raw, tmp_path / "out", *more)) == 2
    message = capsys.readouterr().err
    assert message.startswith("ttrd3: error: ")
    assert text in message
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_tells_what_became_of_values_and_of_nodata(tmp_path, capsys):
    image = np.random.default_rng(0).integers(1, 4001, (192, 384, 4), dtype=np.uint16)
    image[:, :192, 1] = 0
    image[:60, :60] = 0
    write_raster(tmp_path / "raw/a.tif", image, nodata=0)
    command = words(tmp_path / "raw", tmp_path / "out", "--tile", "192", "--workers", "1", "--val", "0", "--test", "0")
    assert main([*command, "--bands", "4,3,1", "--scale", "divide:3000"]) == 0
    out = capsys.readouterr().out
    told = re.search(
        r"hr: bands 4, 3, 1, values 0..3000, 0..3000, 0..3000 -> 0..255; clipped 0.00% below, (.*)% above", out
    )
    assert float(told.group(1)) == pytest.approx(25, abs=1)
    assert "pixels without data: 1 tiles have a mask, 0 tiles left out (--max-nodata)" in out


def test_help_is_complete(capsys):
    with pytest.raises(SystemExit) as end:
        main(["prepare", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert set(re.findall(r"^  --([a-z-]+)", text, re.MULTILINE)) == {
        *("source", "out", "tile", "stride", "val", "test", "ref", "val-list", "test-list", "ref-list"),
        *("paired", "skip-bad", "convert", "bands", "scale", "max-nodata", "workers", "overwrite"),
    }
    assert "ttrd3 prepare --source AID --out data/AID" in text
