import io
import os

import numpy as np
import pytest
from builders import SAMPLE, authors_folder, picture, prepared, save
from PIL import Image

from ttrd3.data.degrade import degrade
from ttrd3.data.descriptors import StatisticsDescriptor
from ttrd3.data.images import read_rgb
from ttrd3.data.indexing import update_index
from ttrd3.data.plan import PrepareOptions
from ttrd3.data.prepare import prepare
from ttrd3.data.retrieved import same_source
from ttrd3.data.streams import ValidationView
from ttrd3.data.triplets import TripletDataset
from ttrd3.errors import ConfigError, DataError

SHARES = {"val": 0.0, "test": 0.0, "ref": 0.0}


def generator(seed=0):
    return np.random.default_rng(seed)


def index(library, out, tile=64, stride=None):
    update_index(library, out, StatisticsDescriptor(), tile=tile, stride=stride or tile, workers=1)
    return str(out)


def data(root, path, split="train", **options):
    return TripletDataset(str(root), split, reference="retrieved", index=path, **options, seed=0)


def jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def similar(seed, change):
    """The scene of `seed`, mirrored and slightly recoloured: alike, no duplicate."""
    image = picture(seed, 64, 64)[:, ::-1].astype(int)
    return np.clip(image + change, 0, 255).astype(np.uint8)


@pytest.fixture
def planted(tmp_path):
    """Eight images, and a library with three like each: by a change of 2, of 12 and of 24 grey levels."""
    for seed in range(8):
        save(tmp_path / "raw" / f"image{seed}.png", picture(seed, 64, 64))
        for change in (2, 12, 24):
            save(tmp_path / "library" / f"scene {seed} by {change:02d}.png", similar(seed, change))
    prepare(tmp_path / "raw", tmp_path / "data", PrepareOptions(64, 64, SHARES), workers=1)
    return tmp_path / "data", index(tmp_path / "library", tmp_path / "lib.index")


def test_the_planted_nearest_is_found(planted):
    dataset = data(*planted)
    for number in range(8):
        sample = dataset.sample(number, generator())
        assert sample["reference_name"] == f"scene {number} by 02.png"
        np.testing.assert_array_equal(sample["reference"].numpy().transpose(1, 2, 0), similar(number, 2))
        np.testing.assert_array_equal(
            sample["degraded_reference"].numpy().transpose(1, 2, 0), degrade(similar(number, 2))
        )


def test_top_draws_among_the_best_and_one_takes_the_best(planted):
    training, validation = data(*planted, top=3), ValidationView(data(*planted), seed=5)
    for number in range(8):
        drawn = {training.sample(number, generator(seed))["reference_name"] for seed in range(40)}
        assert drawn == {f"scene {number} by {change:02d}.png" for change in (2, 12, 24)}
        assert validation[number]["reference_name"] == f"scene {number} by 02.png"


def test_several_references_come_best_first(planted):
    dataset = data(*planted, references=3)
    for number in range(8):
        sample = dataset.sample(number, generator(number))
        names = [f"scene {number} by {change:02d}.png" for change in (2, 12, 24)]
        assert sample["reference_name"] == " + ".join(names)
        assert sample["reference"].shape == sample["degraded_reference"].shape == (3, 3, 64, 64)
        for rank, change in enumerate((2, 12, 24)):
            image = sample["reference"][rank].numpy().transpose(1, 2, 0)
            np.testing.assert_array_equal(image, similar(number, change))
            degraded = sample["degraded_reference"][rank].numpy().transpose(1, 2, 0)
            np.testing.assert_array_equal(degraded, degrade(image))
    dropped = data(*planted, references=3, reference_dropout=1.0).sample(0, generator())
    assert dropped["reference"].shape == (3, 3, 64, 64)
    assert not dropped["reference"].any()


def test_building_again_gives_the_same_and_limit_keeps_tiles_and_references_together(planted):
    first, second = (data(*planted, top=2) for _ in range(2))
    for number in range(8):
        samples = [d.sample(number, generator(number)) for d in (first, second)]
        assert samples[0]["reference_name"] == samples[1]["reference_name"]
    few = data(*planted, limit=3)
    for number in range(3):
        sample = few.sample(number, generator())
        assert sample["reference_name"] == f"scene {sample['name'][-1]} by 02.png"


def test_crops_of_a_retrieved_reference_are_of_its_own_place(planted):
    dataset = data(*planted, crop=32)
    places = {dataset.sample(0, generator(seed))["reference"].numpy().tobytes() for seed in range(30)}
    assert len(places) > 10


def twins(folder):
    """Two different images; the second twice: as airplane01 = airplane02 of UC Merced, and re-encoded."""
    a, b = (read_rgb(path)[:256, :256] for path in sorted((SAMPLE / "neon").glob("train/hr/*/*.png"))[:2])
    save(folder / "airplane" / "airplane00.png", a)
    save(folder / "airplane" / "airplane01.png", b)
    save(folder / "airplane" / "airplane02.tif", b)
    save(folder / "airplane" / "airplane03.jpg", b, quality=75)
    return folder


@pytest.mark.parametrize("of", ["the raw folder", "the prepared folder", "another folder of other names"])
def test_no_image_gets_itself_or_a_duplicate(tmp_path, of):
    raw, out = twins(tmp_path / "raw"), tmp_path / "data"
    prepare(raw, out, PrepareOptions(256, 256, SHARES), workers=1)
    library = {"the raw folder": raw, "the prepared folder": out}.get(of, tmp_path / "renamed")
    if library.name == "renamed":
        for number, path in enumerate(sorted(raw.glob("*/*"))):
            save(library / f"{number}.png", jpeg(read_rgb(path), 90))
    dataset = data(out, index(library, tmp_path / "lib.index", tile=256))
    (first, *others) = [dataset.sample(number, generator())["reference"].numpy() for number in range(4)]
    a = read_rgb(raw / "airplane" / "airplane00.png").astype(int)
    b = read_rgb(raw / "airplane" / "airplane01.png").astype(int)
    assert np.abs(first.transpose(1, 2, 0) - b).mean() < 8  # one of the twins, but for JPEG
    for other in others:  # each twin gets the only image that is none of its twins
        assert np.abs(other.transpose(1, 2, 0) - a).mean() < 8
    with pytest.raises(DataError, match=r"3 images have fewer than 2 usable references.*duplicates, or overlaps it"):
        data(out, str(tmp_path / "lib.index"), references=2)


@pytest.mark.parametrize("library", ["raw", "."])
def test_overlapping_windows_of_the_same_source_are_never_given(tmp_path, library):
    save(tmp_path / "raw" / "scene.png", picture(0, 64, 256))
    save(tmp_path / "raw" / "other.png", picture(1, 64, 64))
    prepare(tmp_path / "raw", tmp_path / "data", PrepareOptions(64, 64, SHARES), workers=1)
    if library == ".":
        (tmp_path / "all").mkdir()
        (tmp_path / "raw").rename(tmp_path / "all" / "raw")
    path = index(tmp_path / ("all" if library == "." else "raw"), tmp_path / "lib.index", stride=16)
    dataset = data(tmp_path / "data", path, top=99)
    for number, tile in enumerate(dataset.tiles):
        drawn = {dataset.sample(number, generator(seed))["reference_name"] for seed in range(150)}
        lefts = {int(name.rpartition("@")[2].split(",")[0]) for name in drawn if "scene" in name}
        if "other" in tile.name:
            assert lefts == set(range(0, 193, 16))
        else:
            left = tile.source[1][0]
            assert lefts == {other for other in range(0, 193, 16) if abs(other - left) >= 64}


def test_the_authors_layout_as_data_and_as_library(tmp_path):
    root = authors_folder(tmp_path / "data", {"train": ["a_0", "a_1", "a_2"], "val": ["a_3"]}, side=64)
    dataset = data(root, index(root, tmp_path / "lib.index"), top=9)
    for number in range(3):
        drawn = {dataset.sample(number, generator(seed))["reference_name"] for seed in range(30)}
        assert drawn == {f"train/hr_64/a_{other}.png" for other in range(3) if other != number}


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("airplane/airplane01.tif", "airplane/airplane01.webp", True),
        ("scene.tif", "deep/folder/scene.tif", True),
        ("deep/scene.tif", "folder/deep/scene.tif", True),
        ("deep/scene.tif", "other/scene.tif", False),
        ("scene1.tif", "scene10.tif", False),
        ("a.b/c.tif", "a/c.tif", False),
    ],
)
def test_names_of_one_source(a, b, expected):
    assert same_source(a, b) == same_source(b, a) == expected


def test_what_cannot_work_is_told_at_once(planted, tmp_path):
    root, path = planted
    with pytest.raises(ConfigError, match=r"reference: retrieved needs the index of a library.*ttrd3 index"):
        data(root, None)
    with pytest.raises(ConfigError, match="references: found 2 with reference: same_class"):
        TripletDataset(str(root), "train", references=2, seed=0)
    other = index(tmp_path / "library", tmp_path / "small.index", tile=32)
    with pytest.raises(DataError, match=r"64 x 64 pixels, but .*small.index holds tiles of 32 x 32"):
        data(root, other)

    class Other(StatisticsDescriptor):
        kind = "other"

    with pytest.raises(DataError, match="was made with the descriptor statistics-1, expected other"):
        data(root, path, descriptor=Other())


def test_a_library_that_changed_or_went_is_told_at_once(planted, tmp_path):
    root, path = planted
    best = tmp_path / "library" / "scene 3 by 02.png"
    os.utime(best, ns=(0, 0))
    with pytest.raises(DataError, match=r"scene 3 by 02\.png: was changed after .*ttrd3 index --library"):
        data(root, path)
    best.unlink()
    with pytest.raises(DataError, match=r"scene 3 by 02\.png: cannot be read .*lib\.index lists it"):
        data(root, path)
    index(tmp_path / "library", tmp_path / "lib.index")
    assert data(root, path).sample(3, generator())["reference_name"] == "scene 3 by 12.png"


def test_duplicates_at_the_front_do_not_use_up_the_search(tmp_path):
    root = prepared(tmp_path, {"a": 2}, side=64)
    for number in range(40):
        save(tmp_path / "library" / f"twin{number:02d}.png", picture(0, 64, 64))
    save(tmp_path / "library" / "far.png", picture(9, 64, 64))
    dataset = data(root, index(tmp_path / "library", tmp_path / "lib.index"))
    assert dataset.sample(0, generator())["reference_name"] == "far.png"
    assert dataset.sample(1, generator())["reference_name"] in {"far.png", "twin00.png"}
