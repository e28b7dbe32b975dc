import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from builders import SAMPLE, SHARES, claim_rows, class_folders, picture, save, tree, write_png16

from ttrd3.data.degrade import lr_from_hr
from ttrd3.data.hashes import exact_hash
from ttrd3.data.images import read_rgb
from ttrd3.data.layout import find_tiles
from ttrd3.data.manifest import read_rows
from ttrd3.data.plan import PrepareOptions, bytes_needed, plan_jobs
from ttrd3.data.pool import run_jobs
from ttrd3.data.prepare import prepare
from ttrd3.data.sources import list_sources
from ttrd3.data.tiling import grid, name_tiles
from ttrd3.errors import DataError, UserError


def run(tmp_path, *, overwrite=False, workers=1, source="raw", **options):
    given = {"tile": 32, "stride": 32, "shares": SHARES, **options}
    return prepare(tmp_path / source, tmp_path / "out", PrepareOptions(**given), workers=workers, overwrite=overwrite)


def refused(tmp_path, *texts, kind=UserError, **options):
    with pytest.raises(kind) as error:
        run(tmp_path, **options)
    for text in texts:
        assert text in str(error.value)


def test_tiles_lie_on_the_grid_and_only_whole_ones_count():
    assert grid(600, 600, 256, 256) == [(x, y, x + 256, y + 256) for y in (0, 256) for x in (0, 256)]
    assert grid(257, 256, 256, 256) == [(0, 0, 256, 256)]
    assert grid(255, 300, 256, 256) == []
    assert len(grid(64, 32, 32, 16)) == 3
    assert name_tiles("a", [(0, 0, 8, 8)]) == {"a": (0, 0, 8, 8)}
    assert list(name_tiles("a", grid(600, 300, 256, 256))) == ["a_0000_0000", "a_0000_0256"]


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_class_folders_become_tiles_with_exact_lr(tmp_path, suffix):
    class_folders(tmp_path / "raw", {"forest": 2, "meadow": 1}, side=80, suffix=suffix)
    manifest = run(tmp_path, lists={"val": ["forest/forest01"]})
    assert manifest["counts"] == {"train": {"forest": 4, "meadow": 4}, "val": {"forest": 4}, "test": {}, "ref": {}}
    assert len(read_rows(tmp_path / "out")) == 12
    for row in read_rows(tmp_path / "out"):
        left, top, right, bottom = row.box
        expected = read_rgb(tmp_path / "raw" / row.source)[top:bottom, left:right]
        hr, lr = (
            read_rgb(tmp_path / "out" / row.split / kind / row.class_name / f"{row.name}.png") for kind in ("hr", "lr")
        )
        np.testing.assert_array_equal(hr, expected)
        np.testing.assert_array_equal(lr, lr_from_hr(expected))
        assert row.fingerprint.exact == exact_hash(expected)
        assert row.split == ("val" if "forest01" in row.source else "train")
    assert len(find_tiles(tmp_path / "out", "train")) == 8


def test_paired_folders_are_cut_at_the_same_boxes(tmp_path):
    for number, name in enumerate("ab"):
        save(tmp_path / "raw/hr" / f"{name}.png", picture(number, 64, 64))
        save(tmp_path / "raw/ref" / f"{name}.png", picture(10 + number, 64, 64))
    manifest = run(tmp_path, shares={"val": 0.5, "test": 0.5, "ref": 0.0})
    assert manifest["paired"]
    rows = read_rows(tmp_path / "out")
    assert len(rows) == 8
    for row in rows:
        left, top, right, bottom = row.box
        for kind in ("hr", "ref"):
            found = read_rgb(tmp_path / "out" / row.split / kind / "images" / f"{row.name}.png")
            whole = read_rgb(tmp_path / "raw" / kind / row.source)
            np.testing.assert_array_equal(found, whole[top:bottom, left:right])


def test_processes_make_the_same_bytes_as_one(tmp_path):
    class_folders(tmp_path / "raw", {"forest": 6, "meadow": 5}, side=64)
    run(tmp_path, workers=1)
    alone = tree(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    run(tmp_path, workers=2)
    assert tree(tmp_path / "out") == alone
    assert not any(str(tmp_path).encode() in content for content in alone.values())


def spoiled(tmp_path):
    class_folders(tmp_path / "raw", {"forest": 2})
    save(tmp_path / "raw/forest/small.png", picture(0, 32, 28))
    save(tmp_path / "raw/forest/grey.png", picture(0)[:, :, 0])
    write_png16(tmp_path / "raw/forest/deep.png", np.zeros((32, 32, 3), np.uint16))
    (tmp_path / "raw/forest/empty.png").write_bytes(b"")
    (tmp_path / "raw/forest/text.jpg").write_text("no image")
    cut = tmp_path / "raw/forest/cut.png"
    save(cut, picture(3))
    cut.write_bytes(cut.read_bytes()[:-1000])
    claim_rows(save(tmp_path / "raw/forest/tall.png", picture(4)), 900)


def test_bad_images_seen_in_the_headers_stop_it_before_anything_is_written(tmp_path):
    spoiled(tmp_path)
    refused(
        tmp_path, "nothing was written; 3 with problems", "small.png: 28 x 32", "empty.png", "text.jpg", "--skip-bad"
    )
    assert not (tmp_path / "out").exists()


def test_bad_images_seen_when_decoded_are_all_told_and_no_manifest_is_written(tmp_path):
    spoiled(tmp_path)
    for name in ("small.png", "empty.png", "text.jpg"):
        (tmp_path / "raw/forest" / name).unlink()
    refused(
        tmp_path, "4 with problems", "grey.png: found grey", "deep.png: found 16-bit RGB", "cut.png: truncated",
        "tall.png: its header promises more rows",
    )  # fmt: skip
    assert not (tmp_path / "out/manifest.json").exists()
    with pytest.raises(DataError, match="has not finished"):
        find_tiles(tmp_path / "out", "train")
    assert run(tmp_path, skip_bad=True)["counts"]["train"] == {"forest": 2}  # goes on where it stopped


def test_skip_bad_lists_what_it_leaves_out(tmp_path):
    spoiled(tmp_path)
    (tmp_path / "raw/forest/readme.txt").write_text("")
    manifest = run(tmp_path, skip_bad=True)
    names = ["cut", "deep", "empty", "grey", "small", "tall", "text"]
    assert [name.split("/")[1].split(".")[0] for name in manifest["left_out"]] == names
    assert manifest["left_out"]["forest/grey.png"].startswith("forest/grey.png: found grey")
    assert manifest["not_images"] == ["forest/readme.txt"]
    assert [tile.name for tile in find_tiles(tmp_path / "out", "train")] == ["forest/forest00", "forest/forest01"]
    assert json.loads((tmp_path / "out/manifest.json").read_text()) == manifest


def test_many_problems_are_cut_short(tmp_path):
    class_folders(tmp_path / "raw", {"forest": 30}, side=16)
    refused(tmp_path, "30 with problems", "forest19.png", "... and 10 more")
    refused(tmp_path, "no image can be used", skip_bad=True)


def test_convert_turns_grey_into_rgb(tmp_path):
    grey = picture(0)[:, :, 0]
    save(tmp_path / "raw/grey.png", grey)
    run(tmp_path, convert=True)
    found = read_rgb(tmp_path / "out/train/hr/images/grey.png")
    np.testing.assert_array_equal(found, np.dstack([grey] * 3))


def test_orphans_of_paired_folders(tmp_path):
    for name in ("hr/a.png", "ref/a.png", "hr/b.png", "ref/c.png", "hr/d.png"):
        save(tmp_path / "raw" / name, picture(0))
    save(tmp_path / "raw/ref/d.png", picture(0, 64, 64))
    refused(tmp_path, "hr/b.png: no reference", "ref/c.png: no image", "ref/d.png: 64 x 64 pixels, but")
    manifest = run(tmp_path, skip_bad=True)
    assert sorted(manifest["left_out"]) == ["d.png", "hr/b.png", "ref/c.png"]
    assert manifest["counts"]["train"] == {"images": 1}


def test_two_sources_of_one_name(tmp_path):
    save(tmp_path / "raw/a/x.png", picture(0))
    save(tmp_path / "raw/a/x.tif", picture(1))
    save(tmp_path / "raw/b/x.tif", picture(1))
    refused(tmp_path, "1 tile names", "a/x (from a/x.png, a/x.tif)", "Rename")


def test_a_finished_folder_is_left_alone(tmp_path, caplog):
    class_folders(tmp_path / "raw", {"forest": 2})
    run(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    with caplog.at_level("INFO"):
        run(tmp_path)
    assert "already prepared, nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == times


def test_source_images_that_changed_at_the_same_size_are_told(tmp_path, caplog):
    class_folders(tmp_path / "raw", {"forest": 2}, suffix="tif")
    run(tmp_path)
    run(tmp_path)
    assert "changed" not in caplog.text
    later = (tmp_path / "out/manifest.json").stat().st_mtime + 1
    os.utime(tmp_path / "raw/forest/forest01.tif", (later, later))
    run(tmp_path)
    assert (
        "1 source images were changed after its tiles were begun: forest/forest01.tif. Add --overwrite" in caplog.text
    )
    (tmp_path / "out/manifest.json").rename(tmp_path / "out/prepare-plan.json")  # as a process killed amid its work
    caplog.clear()
    run(tmp_path)
    assert "1 source images were changed" in caplog.text


def test_two_at_once_into_one_folder(tmp_path):
    class_folders(tmp_path / "raw", {"forest": 2})
    hold = (
        "import sys; from pathlib import Path; from ttrd3.files import Lock; "
        "lock = Lock(Path(sys.argv[1])); lock.take('it'); print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "out/.prepare.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        refused(tmp_path, f"--out: {tmp_path / 'out'} is in use by process {other.pid}", "Wait until it has finished")
        assert not (tmp_path / "out/train").exists()
        other.communicate("\n")
    assert run(tmp_path)["counts"]["train"] == {"forest": 2}


def test_other_options_or_sources_into_the_same_folder_are_refused(tmp_path):
    class_folders(tmp_path / "raw", {"forest": 2})
    run(tmp_path)
    refused(tmp_path, "tile was 32 and is now 16", "--overwrite", tile=16)
    refused(tmp_path, "skip_bad was False and is now True", skip_bad=True)
    save(tmp_path / "raw/forest/new.png", picture(9))
    refused(tmp_path, "the source images are not the same")
    assert run(tmp_path, overwrite=True)["counts"]["train"] == {"forest": 3}


def test_overwrite_deletes_only_what_prepare_made(tmp_path):
    class_folders(tmp_path / "raw", {"forest": 2})
    run(tmp_path)
    (tmp_path / "out/notes.txt").write_text("mine")
    (tmp_path / "out/train/mine.txt").write_text("mine")
    run(tmp_path, overwrite=True, tile=16, stride=16)
    assert (tmp_path / "out/notes.txt").read_text() == (tmp_path / "out/train/mine.txt").read_text() == "mine"
    assert read_rgb(tmp_path / "out/train/hr/forest/forest00_0000_0016.png").shape == (16, 16, 3)
    assert not (tmp_path / "out/train/hr/forest/forest00.png").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_folders_are_never_touched(tmp_path, overwrite):
    class_folders(tmp_path / "raw", {"forest": 2})
    save(tmp_path / "out/train/hr/precious.png", picture(0))
    refused(tmp_path, "not empty and was not made by `ttrd3 prepare` (it holds train)", overwrite=overwrite)
    (tmp_path / "out/manifest.json").write_text('{"format": 1}')
    refused(tmp_path, "manifest.json: not written by `ttrd3 prepare`", overwrite=overwrite)
    assert sorted(tree(tmp_path / "out")) == ["manifest.json", "train/hr/precious.png"]


def test_folders_in_each_other_are_refused(tmp_path):
    class_folders(tmp_path / "out", {"forest": 1})
    class_folders(tmp_path / "out/raw", {"forest": 1})
    refused(tmp_path, "lie in each other", source="out")
    refused(tmp_path, "lie in each other", source="out/raw")
    with pytest.raises(UserError, match="lie in each other"):
        prepare(tmp_path / "out", tmp_path / "out/x", PrepareOptions(32, 32, SHARES), workers=1)


def test_an_output_that_cannot_be_written(tmp_path):
    class_folders(tmp_path / "raw", {"forest": 1})
    (tmp_path / "out").write_text("a file")
    refused(tmp_path, "--out", "is a file, expected a folder")
    with pytest.raises(UserError, match=r"--out: .* cannot be written"):
        prepare(tmp_path / "raw", tmp_path / "out/deeper", PrepareOptions(32, 32, SHARES), workers=1)


def test_too_little_disk_is_told_before_the_start(tmp_path, monkeypatch):
    class_folders(tmp_path / "raw", {"forest": 3}, side=64)
    jobs, _ = plan_jobs(list_sources(tmp_path / "raw"), tmp_path / "out", PrepareOptions(32, 32, SHARES))
    assert bytes_needed(jobs, 32) == 12 * (32 * 32 + 8 * 8) * 3
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)  # no disk can be filled for a test
    refused(tmp_path, "0.00 MB free", "preparing 3 images")
    assert not (tmp_path / "out/train").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tile": 30}, "--tile: found 30, expected a multiple of 4"),
        ({"tile": 0}, "--tile: found 0"),
        ({"stride": 0}, "--stride: found 0"),
        ({"shares": {"val": 1.5, "test": 0.0, "ref": 0.0}}, "--val: found 1.5"),
        ({"shares": {"val": 0.5, "test": 0.5, "ref": 0.1}}, "add up to 1.1"),
        ({"shares": {"val": float("nan"), "test": 0.0, "ref": 0.0}}, "--val: found nan"),
    ],
)
def test_senseless_options(tmp_path, options, text):
    class_folders(tmp_path / "raw", {"forest": 1})
    refused(tmp_path, text, **options)


def test_duplicates_across_splits_are_reported(tmp_path, caplog):
    image = picture(0, 64, 64)
    save(tmp_path / "raw/a/first.png", image)
    save(tmp_path / "raw/a/second.jpg", image, quality=85)
    save(tmp_path / "raw/b/third.tif", image)
    save(tmp_path / "raw/b/fourth.png", picture(1, 64, 64))
    manifest = run(tmp_path, tile=64, lists={"val": ["a/second.jpg"], "test": ["b/third.tif"]})
    assert manifest["duplicates_across_splits"] == [
        ["train/a/first", "test/b/third"],
        ["train/a/first", "val/a/second"],
        ["val/a/second", "test/b/third"],
    ]
    assert "3 pairs of the same image" in caplog.text


def test_the_embedded_sample_is_an_ordinary_prepared_folder():
    root = SAMPLE / "neon"
    counts = json.loads((root / "manifest.json").read_text())["counts"]
    for split, classes in counts.items():
        tiles = find_tiles(root, split) if classes else []
        assert {name: [tile.class_name for tile in tiles].count(name) for name in classes} == classes
    assert len(counts["train"]) == 4
    for name in counts["train"]:
        assert counts["val"][name] >= 1
        assert counts["ref"][name] + counts["train"][name] >= 2
    size = sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file())
    assert size <= 5_000_000


def test_no_two_sample_tiles_overlap():
    places = [tuple(row.name.rsplit("_", 2)) for row in read_rows(SAMPLE / "neon")]
    for i, (scene, top, left) in enumerate(places):
        for other, y, x in places[:i]:
            assert other != scene or abs(int(top) - int(y)) >= 256 or abs(int(left) - int(x)) >= 256


def test_a_worker_that_is_killed_is_told_as_want_of_memory():
    with pytest.raises(UserError, match=r"one of 2 worker processes was killed.*smaller --workers"):
        list(run_jobs(os._exit, [1, 1], workers=2))
