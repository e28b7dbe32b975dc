import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from builders import class_folders, picture, prepared, save
from rasters import write_raster
from safetensors.numpy import load_file, save_file

from ttrd3.data.degrade import degrade
from ttrd3.data.descriptors import StatisticsDescriptor, describe
from ttrd3.data.hashes import fingerprint
from ttrd3.data.images import read_rgb
from ttrd3.data.index import read_header, read_index
from ttrd3.data.indexing import update_index
from ttrd3.data.windows import read_windows
from ttrd3.errors import DataError, UserError


def index(library, out, tile=32, stride=None, **options):
    options = {"descriptor": StatisticsDescriptor(), "workers": 1} | options
    return update_index(library, out, tile=tile, stride=stride or tile, **options)


def counts(summary):
    return summary.new, summary.changed, summary.kept, summary.deleted


@pytest.fixture
def library(tmp_path):
    """A folder as users have them: spaces, umlauts, depth, other files, a scene and a GeoTIFF."""
    root = tmp_path / "my library"
    save(root / "a b" / "tile one.png", picture(0))
    save(root / "größe" / "tief" / "läge.jpg", picture(1))
    save(root / "scene.png", picture(2, 70, 100))
    save(root / ".hidden" / "no.png", picture(3))
    (root / "read me.txt").write_text("not an image")
    layout = {"width": 64, "height": 96, "count": 3, "dtype": "uint8", "transform": rasterio.Affine(1, 0, 9, 0, -1, 9)}
    with rasterio.open(root / "geo.tif", "w", driver="GTiff", **layout) as file:
        file.write(picture(4, 96, 64).transpose(2, 0, 1))
    return root


def test_every_tile_is_described_from_its_degraded_pixels(library, tmp_path):
    summary = index(library, tmp_path / "out" / "lib.index")
    assert summary.tiles == 1 + 1 + 6 + 6
    assert counts(summary) == (4, 0, 0, 0)
    found = read_index(tmp_path / "out" / "lib.index")
    assert [file.name for file in found.files] == sorted(
        ["a b/tile one.png", "größe/tief/läge.jpg", "scene.png", "geo.tif"]
    )
    descriptors = np.concatenate(list(found.descriptors()))
    for row in range(len(found.tiles)):
        file = found.files[found.tiles.file[row]]
        (pixels,) = read_windows(library / file.name, [found.tiles.window(row)])
        np.testing.assert_array_equal(descriptors[row], describe(degrade(pixels)))
        assert found.tiles.fingerprint(row) == fingerprint(pixels)
    names = [found.name(row) for row in range(len(found.tiles))]
    assert len(set(names)) == len(names)
    assert {"a b/tile one.png", "scene.png@64,32", "geo.tif@32,64"} <= set(names)
    assert found.root == library.resolve()


def test_the_same_content_gives_the_same_bytes_whatever_the_workers_and_the_way(library, tmp_path):
    index(library, tmp_path / "one.index")
    index(library, tmp_path / "two.index", workers=2)
    save(library / "b.png", picture(9))
    first = (library / "a b" / "tile one.png").rename(tmp_path / "aside.png")
    index(library, tmp_path / "three.index")
    (library / "b.png").unlink()
    first.rename(library / "a b" / "tile one.png")
    assert counts(index(library, tmp_path / "three.index")) == (1, 0, 3, 1)
    assert (tmp_path / "one.index").read_bytes() == (tmp_path / "two.index").read_bytes()
    assert (tmp_path / "one.index").read_bytes() == (tmp_path / "three.index").read_bytes()


def test_only_what_changed_is_read_again(library, tmp_path):
    out = tmp_path / "lib.index"
    index(library, out)
    before, status = dict(rows(read_index(out))), out.stat()
    assert counts(index(library, out)) == (0, 0, 4, 0)
    assert out.stat().st_mtime_ns == status.st_mtime_ns  # not even written

    # If a file of the same size and time were read again, its noise would be refused.
    kept = library / "scene.png"
    times = kept.stat()
    kept.write_bytes(os.urandom(times.st_size))
    os.utime(kept, ns=(times.st_atime_ns, times.st_mtime_ns))
    save(library / "a b" / "tile one.png", picture(50))
    save(library / "new.png", picture(51))
    (library / "geo.tif").unlink()
    summary = index(library, out)
    assert counts(summary) == (1, 1, 2, 1)
    assert summary.tiles == 1 + 1 + 1 + 6
    after = read_index(out)
    assert [file.name for file in after.files] == ["a b/tile one.png", "größe/tief/läge.jpg", "new.png", "scene.png"]
    new = dict(rows(after))
    for name, (descriptor, exact) in new.items():
        same = name in before and before[name][1] == exact
        assert same == (name not in ("a b/tile one.png", "new.png"))
        assert not same or np.array_equal(before[name][0], descriptor)
    np.testing.assert_array_equal(new["a b/tile one.png"][0], describe(degrade(picture(50))))


def rows(found):
    descriptors = np.concatenate(list(found.descriptors()))
    return [(found.name(row), (descriptors[row], found.tiles.exact[row].tobytes())) for row in range(len(descriptors))]


def test_a_moved_library_is_not_read_again(library, tmp_path):
    out = tmp_path / "lib.index"
    index(library, out)
    moved = library.rename(tmp_path / "elsewhere")
    assert counts(index(moved, out)) == (0, 0, 4, 0)
    assert read_header(out).root == str(moved)


def test_other_tiles_or_another_descriptor_are_made_anew(library, tmp_path):
    class Other(StatisticsDescriptor):
        kind = "other"

        def __call__(self, up):
            return super().__call__(up)[:, :7]

    out = tmp_path / "lib.index"
    index(library, out)
    assert index(library, out, stride=16).new == 4
    assert len(read_index(out).tiles) == 1 + 1 + 3 * 5 + 5 * 3
    assert index(library, out, stride=16, descriptor=Other()).new == 4
    assert read_index(out).width == 7


def test_of_a_prepared_folder_train_and_ref_are_taken_with_their_sources(tmp_path):
    lists = {"val": ["a/a00"], "test": ["a/a01"], "ref": ["a/a02"]}
    root = prepared(tmp_path, {"a": 5}, lists)
    index(root, tmp_path / "lib.index")
    files = {file.name: file for file in read_index(tmp_path / "lib.index").files}
    assert sorted(files) == ["ref/hr/a/a02.png", "train/hr/a/a03.png", "train/hr/a/a04.png"]
    assert files["train/hr/a/a03.png"].source == "a/a03.png"
    only_val = prepared(tmp_path / "other", {"a": 2}, {"val": ["a/*"]})
    with pytest.raises(DataError, match="without images in train or ref; references never come from val or test"):
        index(only_val, tmp_path / "other.index")


def test_boxes_of_prepared_tiles_are_those_of_the_source(tmp_path):
    from ttrd3.data.plan import PrepareOptions
    from ttrd3.data.prepare import prepare

    save(tmp_path / "raw" / "scene.png", picture(0, 64, 96))
    shares = {"val": 0.0, "test": 0.0, "ref": 0.0}
    prepare(tmp_path / "raw", tmp_path / "out", PrepareOptions(32, 32, shares), workers=1)
    index(tmp_path / "out", tmp_path / "lib.index", tile=16)
    found = read_index(tmp_path / "lib.index")
    scene = read_rgb(tmp_path / "raw" / "scene.png")
    for row in range(len(found.tiles)):
        file = found.files[found.tiles.file[row]]
        left, top, right, bottom = file.in_source(found.tiles.window(row))
        assert file.source == "scene.png"
        assert fingerprint(np.ascontiguousarray(scene[top:bottom, left:right])) == found.tiles.fingerprint(row)


BAD = {
    "broken.png": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n garbage"),
    "cut.png": lambda path: path.write_bytes(save(path, picture(0)).read_bytes()[:900]),
    "cut.tif": lambda path: path.write_bytes(save(path, picture(0, 64, 64)).read_bytes()[:3000]),
    "small.png": lambda path: save(path, picture(0, 31, 40)),
    "grey.png": lambda path: save(path, picture(0)[..., 0]),
    "gone.png": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_by_name_or_left_out_and_listed(tmp_path, name):
    library, out = class_folders(tmp_path / "library", {"a": 3}), tmp_path / "lib.index"
    index(library, out)
    former = out.read_bytes()
    save(library / "a" / "new.png", picture(77))
    BAD[name](library / name)
    with pytest.raises(DataError, match=rf"nothing was written; 1 files with problems:\n.*{name}.*(\n.*)*--skip-bad"):
        index(library, out)
    assert out.read_bytes() == former
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    summary = index(library, out, skip_bad=True)
    assert counts(summary) == (1, 0, 3, 0)
    assert summary.tiles == 4
    assert list(summary.left_out) == list(read_header(out).left_out) == [name]
    (library / name).unlink()
    save(library / name, picture(5, 64, 64))
    assert counts(index(library, out)) == (1, 0, 4, 0)
    assert read_header(out).left_out == {}


def test_nothing_usable_is_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        index(tmp_path / "empty", tmp_path / "lib.index")
    with pytest.raises(DataError, match="is not a folder"):
        index(tmp_path / "absent", tmp_path / "lib.index")
    library = class_folders(tmp_path / "library", {"a": 2})
    with pytest.raises(DataError, match="2 files with problems"):
        index(library, tmp_path / "lib.index", tile=64, skip_bad=True)
    for tile in (0, 30):
        with pytest.raises(UserError, match=f"--tile: found {tile}"):
            index(library, tmp_path / "lib.index", tile=tile, stride=32)
    assert not (tmp_path / "lib.index").exists()


# --- windows without data ---


@pytest.fixture
def holes(tmp_path):
    """A picture, a GeoTIFF of which two of six windows are whole, one without any."""
    root, there = tmp_path / "scenes", np.zeros((64, 96), bool)
    there[:32, :70] = True
    save(root / "a.png", picture(0))
    image = picture(1, 64, 96)
    image[~there] = 0
    write_raster(root / "border.tif", image, there)
    write_raster(root / "outside.tif", picture(2, 32, 64), there[32:, :64])
    return root


def test_windows_without_data_are_left_out_and_counted(holes, tmp_path, caplog):
    out = tmp_path / "lib.index"
    with caplog.at_level(logging.INFO):
        summary = index(holes, out)
        assert (summary.tiles, counts(summary), summary.left_out) == (3, (3, 0, 0, 0), {})
    told = "left out: 6 windows with pixels without data, of 2 GeoTIFFs: border.tif, outside.tif"
    assert told in caplog.messages
    found = read_index(out)
    assert [found.name(row) for row in range(3)] == ["a.png", "border.tif@0,0", "border.tif@32,0"]
    descriptors = np.concatenate(list(found.descriptors()))
    np.testing.assert_array_equal(descriptors[2], describe(degrade(picture(1, 64, 96)[:32, 32:64])))
    assert found.header.holes == {"border.tif": 4, "outside.tif": 2}
    content = out.read_bytes()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert counts(index(holes, out)) == (0, 0, 3, 0)  # nothing is read again
    assert told in caplog.messages
    assert out.read_bytes() == content
    (holes / "border.tif").unlink()
    assert index(holes, out).tiles == 1
    assert read_header(out).holes == {"outside.tif": 2}


def test_an_index_that_nobody_looked_for_holes_for_is_brought_up_to_date(holes, tmp_path):
    out = tmp_path / "lib.index"
    index(holes, out)
    expected = out.read_bytes()
    header = json.loads(json.dumps(vars(read_header(out))))
    del header["holes"]
    changed(out, header=header)  # as it was written before
    assert read_header(out).holes is None
    assert counts(index(holes, out)) == (0, 2, 1, 0)  # the GeoTIFFs are read again
    assert out.read_bytes() == expected


def test_nothing_but_holes_is_an_error(holes, tmp_path):
    for name in ("a.png", "border.tif"):
        (holes / name).unlink()
    with pytest.raises(DataError, match=r"1 files with problems:\n.*outside\.tif: pixels without data in every window"):
        index(holes, tmp_path / "lib.index")
    assert not (tmp_path / "lib.index").exists()


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit in a descriptor": lambda path: flipped(path, -5),
    "a flipped bit before them": lambda path: flipped(path, len(path.read_bytes()) // 3),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no index at all"),
    "another program's": lambda path: save_file(load_file(path), path, {"made_by": "someone"}),
    "another format": lambda path: changed(path, format=99),
    "a header without its root": lambda path: changed(path, header={}),
}


def changed(path: Path, **entries) -> None:
    size = int.from_bytes(path.read_bytes()[:8], "little")
    ((name, text),) = json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"].items()
    save_file(load_file(path), path, {name: json.dumps(json.loads(text) | entries)})


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_index_is_told_and_never_written_over(tmp_path, damage):
    library, out = class_folders(tmp_path / "library", {"a": 3}), tmp_path / "lib.index"
    index(library, out)
    DAMAGE[damage](out)
    content = out.read_bytes()
    with pytest.raises(DataError, match=r"lib\.index: .*(Delete it|expected one that `ttrd3 index` wrote)"):
        read_index(out)
    with pytest.raises(DataError):
        index(library, out)
    assert out.read_bytes() == content


def test_no_index_and_no_place_for_it(tmp_path):
    library = class_folders(tmp_path / "library", {"a": 2})
    with pytest.raises(DataError, match=r"no such file. Expected an index; make one by `ttrd3 index"):
        read_index(tmp_path / "none.index")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--out: .*cannot be written"):
        index(library, tmp_path / "file" / "lib.index")
