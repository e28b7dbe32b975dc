"""References of an index: the right tile is found, whatever the sizes, and never the image itself."""

import io
import logging
import os
import shutil

import numpy as np
import pytest
import torch
from data.builders import SAMPLE, picture, save
from PIL import Image

from ttrd3.__main__ import main
from ttrd3.data.degrade import lr_from_hr, up_from_lr
from ttrd3.data.descriptors import StatisticsDescriptor, describe
from ttrd3.data.hashes import are_duplicates, fingerprint
from ttrd3.data.images import read_rgb
from ttrd3.data.index import read_index, write_index
from ttrd3.data.indexing import update_index
from ttrd3.errors import DataError
from ttrd3.inference.describe import EncoderDescriptor
from ttrd3.inference.enlarge import continued
from ttrd3.inference.references import View
from ttrd3.inference.retrieval import Library, is_index

CPU = torch.device("cpu")


def index(library, out, tile=128, stride=None):
    update_index(library, out, StatisticsDescriptor(), tile=tile, stride=stride or tile, workers=1)
    return out


def similar(image, change=6):
    """Mirrored and slightly recoloured: alike, no duplicate."""
    return np.clip(image[:, ::-1].astype(int) + change, 0, 255).astype(np.uint8)


def view_of(lr, top=0, left=0, height=None, width=None, pad=(0, 0)):
    """A tile of an LR image; `pad`: by how many enlarged pixels the tile is continued."""
    height, width = height or lr.shape[0], width or lr.shape[1]
    up = up_from_lr(lr)[4 * top : 4 * (top + height), 4 * left : 4 * (left + width)]
    return View(top, left, height, width, lr.shape[:2], continued(up, up.shape[0] + pad[0], up.shape[1] + pad[1]))


def name_of(source, view):
    """Name of the library's tile."""
    found = source.window(view)
    return None if found is None else source._library.index.name(found.key[1])


@pytest.fixture
def mosaic(tmp_path):
    """HR of four different textures of 128 x 128, and a library that holds one like each, and others."""
    parts = [picture(seed, 128, 128) for seed in range(4)]
    hr = np.vstack([np.hstack(parts[:2]), np.hstack(parts[2:])])
    for seed in range(12):
        save(tmp_path / "library" / f"like {seed}.png", similar(picture(seed, 128, 128)))
    return hr, index(tmp_path / "library", tmp_path / "lib.index")


def test_each_tile_of_a_scene_takes_what_looks_like_it(mosaic, upscaler):
    hr, path = mosaic
    lr, library = lr_from_hr(hr), Library.open(path, CPU)
    source = library.references(None, 4)
    for number, (top, left) in enumerate(((0, 0), (0, 32), (32, 0), (32, 32))):
        view = view_of(lr, top, left, 32, 32)
        assert name_of(source, view) == f"like {number}.png"
        np.testing.assert_array_equal(source.window(view).pixels(), similar(picture(number, 128, 128)))
    one = upscaler(tile=128, overlap=0)
    found = one.upscale(lr, path)
    np.testing.assert_array_equal(one.upscale(lr, str(path)), found)
    np.testing.assert_array_equal(one.upscale(lr, one.library(path)), found)
    for top, left in ((0, 0), (0, 128), (128, 0), (128, 128)):  # as if each had been given its reference by hand
        number = top // 64 + left // 128
        view = view_of(lr, top // 4, left // 4, 32, 32)
        tiler = one.tiler(_scene(lr), source, 1, 128, 1)
        assert tiler.grid.place(number) == (view.top, view.left)
        given = one.tiler(_scene(lr), _Always(similar(picture(number, 128, 128))), 1, 128, 1)
        given.run([number], lambda _, tile, top=top, left=left: _require_same(tile, found, top, left))


def _scene(lr):
    from ttrd3.inference.pictures import ArrayScene

    return ArrayScene(lr)


class _Always:
    identity = "always"

    def __init__(self, pixels):
        self.pixels = pixels

    def window(self, view):
        from ttrd3.inference.references import Excerpt

        return Excerpt(None, lambda: self.pixels)


def _require_same(tile, found, top, left):
    expected = np.rint(np.rint(tile * 65535) / 65535 * 255).transpose(1, 2, 0)  # the store keeps 16 bits
    assert np.abs(found[top : top + 128, left : left + 128] - expected).max() <= 1e-3


def test_a_batch_of_tensors_and_the_spread_take_an_index_too(mosaic, upscaler):
    hr, path = mosaic
    lr = lr_from_hr(hr)[:32, :32]
    one = upscaler()
    tensor = torch.from_numpy(lr.copy()).permute(2, 0, 1).float() / 255
    found = one.upscale(tensor[None], path)[0].permute(1, 2, 0).numpy()
    assert np.abs(found * 255 - one.upscale(lr, similar(picture(0, 128, 128)))).mean() < 1  # float bicubic, not 8 bits
    spread, by_hand = (one.upscale_with_spread(lr, given, 2) for given in (path, similar(picture(0, 128, 128))))
    np.testing.assert_array_equal(spread.mean, by_hand.mean)
    np.testing.assert_array_equal(spread.std, by_hand.std)


# --- other sizes ---


def nearest_by_hand(path, windows, allowed=lambda row: True):
    """The row with the least sum of squared distances to windows uint8 (H, W, 3)."""
    found = read_index(path)
    descriptors = np.concatenate(list(found.descriptors())).astype(np.float64)
    distance = sum(((descriptors - describe(window)) ** 2).sum(1) for window in windows)
    return min((row for row in range(len(distance)) if allowed(row)), key=lambda row: distance[row])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 32), (40, 70), (9, 33)])
def test_a_larger_tile_takes_what_is_nearest_to_all_its_windows(tmp_path, height, width):
    for seed in range(30):
        save(tmp_path / "library" / f"{seed}.png", picture(seed, 64, 64))
    path = index(tmp_path / "library", tmp_path / "lib.index", tile=64)
    lr = np.hstack([picture(40, 48, 40), picture(41, 48, 60)])[:height, :width]
    source = Library.open(path, CPU).references(None, 4)
    view = view_of(lr)
    tall = continued(view.up, max(64, 4 * height), 4 * width)
    windows = [tall[y : y + 64, x : x + 64] for y in _even(4 * height) for x in _even(4 * width)]
    row = nearest_by_hand(path, windows)
    found = source.window(view)
    assert found.key[1] == row
    assert found.pixels().shape == (min(64, 4 * height), 64, 3)


def _even(length):
    """Where windows of 64 cover a length, on a grid of 4."""
    count = -(-length // 64)
    return [4 * round(number * ((length - 64) // 4) / (count - 1)) for number in range(count)] if count > 1 else [0]


@pytest.mark.parametrize(("height", "width", "pad"), [(32, 32, (0, 0)), (13, 40, (12, 0)), (1, 1, (60, 60))])
def test_a_smaller_tile_is_mirrored_and_takes_the_middle(mosaic, height, width, pad):
    _, path = mosaic
    path.unlink()
    save(path.parent / "library" / "wide.png", picture(50, 256, 256))
    index(path.parent / "library", path, tile=128)
    lr = lr_from_hr(picture(3, 128, 256))[:height, :width]
    view = view_of(lr, pad=pad)
    source = Library.open(path, CPU).references(None, 8)
    found = source.window(view)
    content = view.up[: 4 * height, : 4 * width]
    windows = [continued(content, 128, max(128, 4 * width))[:, x : x + 128] for x in ([0] if width < 33 else [0, 32])]
    assert found.key[1] == nearest_by_hand(path, windows)
    h, w = (min(128, side) // 8 * 8 for side in view.up.shape[:2])
    assert found.key[2] == (h, w)
    whole = _tile(path, found.key[1])
    top, left = (128 - h) // 2, (128 - w) // 2
    np.testing.assert_array_equal(found.pixels(), whole[top : top + h, left : left + w])


def _tile(path, row):
    found = read_index(path)
    left, top, right, bottom = found.tiles.window(row)
    return read_rgb(found.root / found.files[found.tiles.file[row]].name)[top:bottom, left:right]


def test_any_size_of_image_can_be_enlarged(mosaic, upscaler):
    _, path = mosaic
    for height, width in ((1, 1), (1, 40), (17, 16)):
        found = upscaler(tile=64, overlap=16).upscale(picture(0, 96, 96)[:height, :width], path)
        assert found.shape == (4 * height, 4 * width, 3)


# --- never the image itself ---


def test_a_reduced_tile_has_nearly_the_hash_of_the_tile():
    """What the rule for duplicates stands on: enlarged LR differs from its HR in few bits, from others in many."""
    images = [read_rgb(path) for path in sorted((SAMPLE / "neon").glob("*/hr/*/*.png"))]
    sharp, reduced = [fingerprint(i) for i in images], [fingerprint(up_from_lr(lr_from_hr(i))) for i in images]
    for number, one in enumerate(reduced):
        assert [are_duplicates(one, other) for other in sharp] == [number == other for other in range(len(sharp))]


def jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=75)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize("known", [True, False])
def test_hr_of_the_tile_is_no_reference_whatever_its_name(tmp_path, known):
    image = read_rgb(sorted((SAMPLE / "neon").glob("train/hr/*/*.png"))[0])
    lr = lr_from_hr(image)
    save(tmp_path / "library" / "renamed.png", image)
    save(tmp_path / "library" / "deep" / "again.jpg", image, quality=75)
    save(tmp_path / "library" / "reduced.png", up_from_lr(lr))
    save(tmp_path / "library" / "other.png", picture(5, 256, 256))
    library = Library.open(index(tmp_path / "library", tmp_path / "lib.index", tile=256), CPU)
    source = library.references(save(tmp_path / "lr.png", lr) if known else None, 4)
    assert name_of(source, view_of(lr)) == "other.png"


def test_hr_of_a_window_of_a_larger_tile_is_no_reference(tmp_path):
    images = [read_rgb(path) for path in sorted((SAMPLE / "neon").glob("train/hr/*/*.png"))[:2]]
    lr = lr_from_hr(np.hstack(images))
    for number, image in enumerate(images):
        save(tmp_path / "library" / f"{number}.png", jpeg(image))
    save(tmp_path / "library" / "other.png", picture(5, 256, 256))
    library = Library.open(index(tmp_path / "library", tmp_path / "lib.index", tile=256), CPU)
    assert name_of(library.references(None, 4), view_of(lr)) == "other.png"


def test_windows_of_its_own_source_that_overlap_are_no_references(tmp_path):
    """The library holds HR of the scene in windows of 64, 16 apart, under the scene's name in another folder."""
    hr = picture(0, 64, 256)
    save(tmp_path / "library" / "sharp" / "scene.png", hr)
    save(tmp_path / "library" / "sharp" / "scene1.png", picture(1, 64, 64))
    path = index(tmp_path / "library", tmp_path / "lib.index", tile=64, stride=16)
    lr = lr_from_hr(hr)
    library = Library.open(path, CPU)
    source = library.references(save(tmp_path / "lr" / "scene.tif", lr), 4)
    found = read_index(path)
    for left in (0, 16, 30, 48):
        view = view_of(lr, 0, left, 16, 16)
        guard = source._guard(view, [view.up])
        allowed = {found.name(row) for row in range(len(found.tiles)) if not guard(row)}
        # As HR the tile begins at 4 left; as LR, as which the library may hold it too, at left.
        apart = [x for x in range(0, 193, 16) if abs(x - 4 * left) >= 64 and not -64 < x - left < 16]
        assert allowed == {"sharp/scene1.png", *(f"sharp/scene.png@{x},0" for x in apart)}
        assert name_of(source, view) in allowed
    nameless = library.references(None, 4)
    view = view_of(lr, 0, 20, 16, 16)  # HR of the same place, but not of the same window
    assert name_of(nameless, view) == "sharp/scene.png@80,0" or are_duplicates(
        fingerprint(view.up), fingerprint(hr[:, 80:144])
    )


def test_tiles_of_a_prepared_folder_know_what_they_were_cut_from(tmp_path):
    from ttrd3.data.plan import PrepareOptions
    from ttrd3.data.prepare import prepare

    save(tmp_path / "raw" / "scene.png", picture(0, 64, 256))
    save(tmp_path / "raw" / "other.png", picture(1, 64, 64))
    prepare(tmp_path / "raw", tmp_path / "data", PrepareOptions(64, 64, {"val": 0, "test": 0, "ref": 0}), workers=1)
    library = Library.open(index(tmp_path / "data", tmp_path / "lib.index", tile=64), CPU)
    lr = lr_from_hr(picture(0, 64, 256))
    guard = library.references(save(tmp_path / "lr" / "scene.png", lr), 4)._guard(view_of(lr, 0, 20, 16, 16), [])
    names = {library.index.name(row) for row in range(len(library.index.tiles)) if not guard(row)}
    # 80 to 144 as HR meets the windows from 64 and 128; 20 to 36 as LR that from 0.
    assert names == {"train/hr/images/other.png", "train/hr/images/scene_0000_0192.png"}
    tile = save(tmp_path / "lr" / "scene_0000_0064.png", lr[:, 16:32])  # prepared LR: by the name of its tile
    guard = library.references(tile, 4)._guard(view_of(lr[:, 16:32]), [])
    names = {library.index.name(row) for row in range(len(library.index.tiles)) if not guard(row)}
    assert "train/hr/images/scene_0000_0064.png" not in names
    assert len(names) == 4


def test_the_images_own_file_is_no_reference_anywhere(tmp_path):
    lr = picture(0, 128, 128)
    own = save(tmp_path / "library" / "lr.png", lr)
    save(tmp_path / "library" / "other.png", picture(1, 32, 32))
    library = Library.open(index(tmp_path / "library", tmp_path / "lib.index", tile=32), CPU)
    link = tmp_path / "elsewhere.png"
    link.symlink_to(own)
    for top in (0, 96):
        assert name_of(library.references(link, 4), view_of(lr, top, 96, 32, 32)) == "other.png"


def test_nothing_left_is_told_once_and_done_without(tmp_path, caplog, upscaler, lr):
    hr = picture(0, 64, 64)
    save(tmp_path / "library" / "only.png", hr)
    path = index(tmp_path / "library", tmp_path / "lib.index", tile=64)
    source = Library.open(path, CPU).references(None, 4)
    with caplog.at_level(logging.WARNING):
        assert source.window(view_of(lr_from_hr(hr))) is None
        assert source.window(view_of(lr_from_hr(hr))) is None
    assert len(caplog.records) == 1
    assert "lib.index has no reference for the tile at row 0, column 0" in caplog.text
    one = upscaler()
    np.testing.assert_array_equal(one.upscale(lr_from_hr(hr), path), one.upscale(lr_from_hr(hr)))
    assert (one.upscale(lr, path) != one.upscale(lr)).mean() > 0.1


# --- the index by the encoder, identities, and indexes that cannot be used ---


def test_an_index_by_the_encoder_is_searched_with_the_encoder(mosaic, weights, upscaler):
    hr, path = mosaic
    words = ["index", "--library", path.parent / "library", "--out", path, "--tile", "128", "--weights", weights]
    path.unlink()
    assert main([*map(str, words), "--device", "cpu", "--workers", "1"]) == 0
    found = read_index(path)
    descriptors = np.concatenate(list(found.descriptors()))
    source = upscaler().library(path).references(None, 4)
    encode = EncoderDescriptor(weights, CPU)
    for top, left in ((0, 0), (0, 32), (32, 0), (32, 32)):
        view = view_of(lr_from_hr(hr), top, left, 32, 32)
        distance = np.linalg.norm((descriptors - encode(view.up[None])) / descriptors.std(0), axis=1)
        assert source.window(view).key[1] == distance.argmin()


def test_the_same_library_elsewhere_is_the_same_and_a_changed_one_is_another(mosaic, tmp_path):
    _, path = mosaic
    first = Library.open(path, CPU).references(None, 4)
    shutil.copytree(tmp_path / "library", tmp_path / "moved")  # keeps times
    moved = Library.open(index(tmp_path / "moved", tmp_path / "moved.index"), CPU).references(None, 4)
    assert moved.identity == first.identity
    assert moved.window(view_of(picture(0))).key == first.window(view_of(picture(0))).key
    save(tmp_path / "library" / "new.png", picture(99, 128, 128))
    index(tmp_path / "library", path)
    assert Library.open(path, CPU).references(None, 4).identity != first.identity


def test_what_is_meant_as_an_index(mosaic, tmp_path, weights):
    _, path = mosaic
    other = shutil.copy(path, tmp_path / "no suffix")
    (tmp_path / "empty.index").touch()
    save(tmp_path / "image.png", picture(0)).rename(tmp_path / "image")
    assert [is_index(p) for p in (path, other, tmp_path / "empty.index", weights)] == [True] * 4
    assert not any(is_index(p) for p in (tmp_path / "image", tmp_path / "none.index", tmp_path))
    assert not is_index(shutil.copy(path, tmp_path / "a.png"))


def test_indexes_that_cannot_be_used(mosaic, tmp_path, upscaler, lr, weights):
    _, path = mosaic

    def refused(given, text):
        with pytest.raises(DataError, match=text):
            upscaler().upscale(lr, given)

    refused(weights, "tiny.safetensors: a safetensors file of another program, expected one that `ttrd3 index` wrote")
    refused(tmp_path / "library", r"reference: .*library is a folder\. Give one of its images, or make an index of it")
    damaged = tmp_path / "damaged.index"
    damaged.write_bytes(path.read_bytes()[:-3])
    refused(damaged, r"damaged.index: no index, or a damaged one .* run `ttrd3 index --out")
    save(tmp_path / "small" / "a.png", picture(0, 8, 8))
    small = index(tmp_path / "small", tmp_path / "small.index", tile=4)
    with pytest.raises(DataError, match=r"small\.index: holds tiles of 4 x 4 pixels, expected at least 8 x 8"):
        Library.open(small, CPU).references(None, 8)

    found = read_index(path)
    empty = found.tiles.taken(np.zeros(len(found.tiles), bool))
    write_index(tmp_path / "empty.index", found.header, [], empty, np.zeros((0, found.width), np.float32))
    refused(
        tmp_path / "empty.index", r"empty\.index: holds no tile\. Add images to .*library and run `ttrd3 index` again"
    )

    class Other(StatisticsDescriptor):
        kind = "statistics-0"

    update_index(tmp_path / "library", tmp_path / "old.index", Other(), tile=128, stride=128, workers=1)
    refused(tmp_path / "old.index", r"old.index: was made with the descriptor statistics-0, expected statistics-1")
    os.utime(tmp_path / "library" / "like 7.png", ns=(0, 0))
    refused(path, r"like 7\.png: was changed after .*lib.index was made\. Run `ttrd3 index --library")
    (tmp_path / "library" / "like 7.png").unlink()
    refused(path, r"like 7\.png: cannot be read .*lib\.index lists it")
