import shutil

import pytest
from builders import authors_folder, class_folders, paired_folder, picture, prepared, save

from ttrd3.data.hashes import fingerprint
from ttrd3.data.images import read_rgb
from ttrd3.data.layout import Tile, class_of, find_tiles, has_split
from ttrd3.errors import DataError

COUNTS = {"forest": 3, "meadow": 2}


@pytest.fixture
def ours(tmp_path):
    return prepared(tmp_path, COUNTS, {"val": ["meadow/meadow01"]})


def refused(root, split, *texts):
    with pytest.raises(DataError) as error:
        find_tiles(root, split)
    for text in texts:
        assert text in str(error.value)


def test_finds_our_tiles_with_their_hashes(ours):
    tiles = find_tiles(ours, "train")
    assert [tile.name for tile in tiles] == ["forest/forest00", "forest/forest01", "forest/forest02", "meadow/meadow00"]
    assert [tile.class_name for tile in tiles] == ["forest"] * 3 + ["meadow"]
    for tile in tiles:
        assert tile.fingerprint == fingerprint(read_rgb(tile.hr))
        assert read_rgb(tile.lr).shape == (8, 8, 3)
        assert tile.reference is None
    assert [tile.name for tile in find_tiles(ours, "val")] == ["meadow/meadow01"]
    assert has_split(ours, "val")
    assert not has_split(ours, "ref")


def test_finds_paired_references(tmp_path):
    tiles = find_tiles(paired_folder(tmp_path), "train")
    assert [tile.name for tile in tiles] == ["images/a", "images/b", "images/c"]
    for tile in tiles:
        assert tile.reference.parts[-3:] == ("ref", "images", tile.hr.name)


def test_absent_folder_tells_how_to_prepare_and_how_to_do_without(tmp_path):
    root = tmp_path / "AID"
    refused(
        root, "train", str(root), "AID", f"ttrd3 prepare --source DIR --out {root}", "train.sh options/quickstart.yml"
    )


def test_raw_images_and_empty_folders_are_no_prepared_folders(tmp_path):
    raw = class_folders(tmp_path / "raw", COUNTS)
    refused(raw, "train", "not a prepared folder", f"ttrd3 prepare --source {raw}")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "train", "not a prepared folder")


def test_absent_split_names_those_that_are_there(ours):
    refused(ours, "test", "'test'", "found: train, val")


def test_hr_without_lr_and_the_reverse(ours):
    (ours / "train/lr/forest/forest01.png").unlink()
    refused(ours, "train", "1 HR without LR: forest/forest01", "prepare the data again")
    (ours / "train/hr/forest/forest01.png").unlink()
    (ours / "train/hr/meadow/meadow00.png").unlink()
    refused(ours, "train", "1 LR without HR: meadow/meadow00")


def test_orphans_are_listed_up_to_ten(tmp_path):
    ours = prepared(tmp_path, {"forest": 14})
    for number in range(13):
        (ours / f"train/lr/forest/forest{number:02d}.png").unlink()
    refused(ours, "train", "13 HR without LR", "forest/forest09 and 3 more")


def test_half_filled_folder(ours):
    for kind in ("hr", "lr"):
        shutil.rmtree(ours / "train" / kind / "forest")
    refused(ours, "train", "3 listed in tiles.csv are missing: forest/forest00", "--overwrite")


def test_tiles_that_nobody_listed(ours):
    save(ours / "train/hr/forest/new.png", picture(50))
    save(ours / "train/lr/forest/new.png", picture(51, 8, 8))
    refused(ours, "train", "1 not listed there: forest/new")


def test_paired_reference_missing(tmp_path):
    ours = paired_folder(tmp_path)
    (ours / "train/ref/images/b.png").unlink()
    refused(ours, "train", "without a paired reference", "images/b")


def test_unfinished_preparation(ours):
    (ours / "manifest.json").rename(ours / "prepare-plan.json")
    refused(ours, "train", "has not finished", "same `ttrd3 prepare` command again")


@pytest.mark.parametrize("content", ["{}", "no json", "[1]"])
def test_foreign_manifest(ours, content):
    (ours / "manifest.json").write_text(content)
    refused(ours, "train", "manifest.json", "not written by `ttrd3 prepare`")


def test_manifest_of_another_format(ours):
    path = ours / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    refused(ours, "train", "found format 99, expected 1")


def test_damaged_table_names_the_line(ours):
    path = ours / "tiles.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "forest01,forest", *lines[3:]]))
    refused(ours, "train", "tiles.csv, line 3", "forest01,forest")
    path.unlink()
    refused(ours, "train", "tiles.csv", "cannot be read")


NAMES = {"train": ["airport_1", "airport_2", "dense_residential_7"], "ref": ["airport_9"], "test": ["airport_3"]}


def test_reads_the_authors_layout(tmp_path):
    root = authors_folder(tmp_path, NAMES)
    tiles = find_tiles(root, "train")
    assert [(tile.name, tile.class_name) for tile in tiles] == [
        ("airport_1", "airport"),
        ("airport_2", "airport"),
        ("dense_residential_7", "dense_residential"),
    ]
    assert tiles[0].hr == root / "train/hr_32/airport_1.png"
    assert tiles[0].lr == root / "train/lr_8/airport_1.png"
    assert tiles[0].fingerprint is None
    assert has_split(root, "ref")
    assert [tile.name for tile in find_tiles(root, "test")] == ["airport_3"]
    refused(root, "val", "'val'", "found: train, test, ref")


def test_damaged_authors_layout(tmp_path):
    root = authors_folder(tmp_path, NAMES)
    (root / "train/lr_8/airport_2.png").unlink()
    refused(root, "train", "1 HR without LR: airport_2")
    save(root / "train/lr_8/airport_2.png", picture(0, 8, 4))
    refused(root, "train", "airport_2.png: found 4 x 8 pixels", "32 x 32")
    (root / "train/hr_16").mkdir()
    refused(root, "train", "found hr_16, hr_32, lr_8")
    (root / "train/hr_16").rmdir()
    shutil.rmtree(root / "train/hr_32")
    (root / "train/hr_32").mkdir()
    refused(root, "train", "hr_32: no images in it")


def test_a_pool_of_references_needs_no_lr(tmp_path):
    root = authors_folder(tmp_path, NAMES)
    shutil.rmtree(root / "ref/lr_8")
    assert [tile.name for tile in find_tiles(root, "ref", need_lr=False)] == ["airport_9"]
    refused(root, "ref", "expected one hr_SIZE folder and one lr_SIZE folder")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("airport_12", "airport"),
        ("harbor07", "harbor"),
        ("dense_residential_12", "dense_residential"),
        ("viaduct_12_0_256", "viaduct"),
        ("bridge_12a", "bridge"),
        ("beach", "beach"),
        ("123", "123"),
    ],
)
def test_class_of_a_flat_name(name, expected):
    assert class_of(name) == expected


def test_overlap_is_of_one_source_and_more_than_an_edge(tmp_path):
    def tile(source, *box):
        return Tile("a", "a", tmp_path, None, source=(source, box))

    one = tile("a.png", 0, 0, 32, 32)
    assert one.overlaps(tile("a.png", 31, 31, 63, 63))
    assert not one.overlaps(tile("a.png", 32, 0, 64, 32))
    assert not one.overlaps(tile("b.png", 0, 0, 32, 32))
    assert not one.overlaps(Tile("a", "a", tmp_path, None))
