"""The cache of decoded images: the same samples as without, whatever happens to files, processes and disks."""

import fcntl
import logging
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from builders import SAMPLE, authors_folder, paired_folder, picture, prepared, save, tree
from helpers import listen_to_ctrl_c

from ttrd3.data.cache import Place, open_cache
from ttrd3.data.images import read_rgb
from ttrd3.data.pixels import CachedImages
from ttrd3.data.streams import TrainingStream
from ttrd3.data.triplets import TripletDataset
from ttrd3.environment import ROOT
from ttrd3.errors import DataError

NEON = str(SAMPLE / "neon")


@pytest.fixture
def said(caplog):
    """`said()` -> what was logged since the last call."""
    caplog.set_level(logging.INFO, "ttrd3")

    def messages() -> str:
        text = caplog.text
        caplog.clear()
        return text

    return messages


def mixture(folder: Path) -> list[Path]:
    """Four images of four sizes and three formats."""
    return [
        save(folder / "train/hr/a/one.png", picture(0, 32, 48)),
        save(folder / "train/hr/b/two.jpg", picture(1, 7, 5)),
        save(folder / "train/lr/a/one.png", picture(2, 8, 12)),
        save(folder / "train/hr/ü/drei.tif", picture(3, 1, 1)),
    ]


def cached(dataset: TripletDataset, folder: Path) -> TripletDataset:
    dataset.use_cache(folder)
    return dataset


def opened(tmp_path: Path, paths: list[Path]) -> CachedImages:
    return CachedImages([open_cache(Place(tmp_path / "cache", tmp_path / "data", "train"), paths)])


def require_same(read, paths: list[Path]) -> None:
    for path in paths:
        np.testing.assert_array_equal(read(path), read_rgb(path))


# --- the same samples ---


@pytest.mark.parametrize("crop", [16, None])
@pytest.mark.parametrize("mode", ["same_class", "other_split", "authors", "paired", "none"])
def test_samples_are_the_same_bit_for_bit(tmp_path, mode, crop):
    if mode == "paired":
        root = paired_folder(tmp_path)
    elif mode == "authors":
        root = authors_folder(tmp_path / "data", {"train": ["a_0", "a_1", "b_1"], "ref": ["a_7", "a_8", "b_9"]})
        save(root / "ref/hr_32/a_7.png", read_rgb(root / "train/hr_32/a_0.png"))  # a twin, found by its pixels
    else:
        root = prepared(tmp_path, {"a": 4, "b": 4}, {"ref": ["*2.png", "*3.png"]} if mode == "other_split" else None)
    kind = mode if mode in ("paired", "none") else "same_class"

    def stream(augmentation):
        options = {"reference": kind, "reference_dropout": 0.3, "augmentation": augmentation, "crop": crop}
        return TrainingStream(TripletDataset(str(root), "train", **options, seed=5), seed=5)

    cached, expected = [], []
    for augmentation in ("separate", "joint", "none"):
        cached.append(stream(augmentation))
        cached[-1].dataset.use_cache(tmp_path / "cache")
        decoding = stream(augmentation)
        expected += [decoding[counter] for counter in range(40)]
    shutil.rmtree(root)  # nothing is decoded from here on
    found = [one[counter] for one in cached for counter in range(40)]
    assert {sample["has_reference"] for sample in found} == ({False} if mode == "none" else {True, False})
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            np.testing.assert_array_equal(one[key], value, err_msg=key)


def test_any_mixture_of_sizes_and_formats_is_read_only_and_lies_in_the_map(tmp_path):
    paths = mixture(tmp_path / "data")
    read = opened(tmp_path, paths)
    require_same(read, paths)
    images = [read(path) for path in paths]
    assert all(image.base is not None and not image.flags.writeable for image in images)
    (file,) = (tmp_path / "cache").glob("train-*.pixels")
    assert file.read_bytes()[:-32] == b"".join(image.tobytes() for image in images)


def test_an_image_that_is_not_cached_is_decoded(tmp_path):
    paths = mixture(tmp_path / "data")
    require_same(opened(tmp_path, paths[:2]), paths)


# --- up to date ---


def test_a_second_opening_decodes_nothing_and_splits_are_shared(tmp_path, said):
    root = authors_folder(tmp_path / "data", {"train": ["a_0", "a_1", "a_2"], "val": ["a_3"]})
    for split, made in (("val", 2), ("train", 0), ("val", 0)):  # references of val are in train
        cached(TripletDataset(str(root), split, seed=0), tmp_path / "cache")
        assert said().count("made in") == made
    cached(TripletDataset(str(root), "train", limit=1, reference="none", seed=0), tmp_path / "cache")
    assert said() == ""
    (tmp_path / "link").symlink_to(root)
    cached(TripletDataset(str(tmp_path / "link"), "train", seed=0), tmp_path / "cache").sample(
        0, np.random.default_rng()
    )
    assert said() == ""


def touch(paths):
    os.utime(paths[1], ns=(0, 123_456_789))
    return paths, "1 images changed, 0 added, 0 removed"


def replace(paths):
    status = paths[0].stat()
    save(paths[0], picture(9, 64, 16))
    os.utime(paths[0], ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp -p` and `rsync -a` do
    return paths, "1 images changed, 0 added, 0 removed"


def add(paths):
    return [*paths, save(paths[0].with_name("new.png"), picture(9))], "0 images changed, 1 added, 0 removed"


def remove(paths):
    paths[2].unlink()
    return [*paths[:2], *paths[3:]], "0 images changed, 0 added, 1 removed"


@pytest.mark.parametrize("change", [touch, replace, add, remove])
def test_changed_files_make_it_anew(tmp_path, said, change):
    old = opened(tmp_path, paths := mixture(tmp_path / "data"))
    former = old(paths[3]).copy()
    said()
    paths, reason = change(paths)
    require_same(opened(tmp_path, paths), paths)
    text = said()
    assert f"is out of date ({reason})" in text
    assert f"{len(paths)} decoded images, " in text
    np.testing.assert_array_equal(old(paths[-1] if change is remove else paths[3]), former)  # who has it open keeps it
    opened(tmp_path, paths)
    assert said() == ""


def truncated(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "damage", [truncated, lambda _: b"", lambda content: content + b"x", lambda _: b"\x00garbage", None]
)
@pytest.mark.parametrize("suffix", ["pixels", "json"])
def test_a_damaged_cache_is_made_anew(tmp_path, said, suffix, damage):
    opened(tmp_path, paths := mixture(tmp_path / "data"))
    whole = tree(tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob(f"*.{suffix}")
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    said()
    require_same(opened(tmp_path, paths), paths)
    assert "4 decoded images, " in said()
    assert tree(tmp_path / "cache") == whole


def test_another_pillow_may_decode_to_other_pixels(tmp_path, said, monkeypatch):
    opened(tmp_path, paths := mixture(tmp_path / "data"))
    monkeypatch.setattr("ttrd3.data.cache.pillow", "99.0")
    said()
    require_same(opened(tmp_path, paths), paths)
    assert "was made by another version" in said()


# --- bad images and interruptions leave nothing half-written ---


def test_a_bad_image_is_told_by_name_and_nothing_is_written(tmp_path):
    root = prepared(tmp_path, {"a": 3})
    bad = root / "train/hr/a/a01.png"
    bad.write_bytes(bad.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"hr/a/a01.png: truncated, damaged"):
        cached(TripletDataset(str(root), "train", seed=0), tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


SCRIPT = """
import logging, os, sys
from pathlib import Path
from ttrd3.data.cache import Place, open_cache
logging.basicConfig(level=logging.INFO, format="%(message)s")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])  # one thread, to be caught in the middle
data, cache = map(Path, sys.argv[1:])
try:
    pixels = open_cache(Place(cache, data, "train"), sorted(data.rglob("*.png")))
except KeyboardInterrupt:
    sys.exit(130)
print(None if pixels is None else sum(int(pixels.get(path).sum()) for path in sorted(data.rglob("*.png"))))
"""


def start(tmp_path: Path, *before: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*before, sys.executable, "-c", SCRIPT, str(tmp_path / "data"), str(tmp_path / "cache")],
        env=os.environ | {"PYTHONPATH": str(ROOT / "codes")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=listen_to_ctrl_c,
    )  # fmt: skip


def slow_images(folder: Path) -> int:
    """Images that take a while to decode; returns the sum of all pixels."""
    image = np.random.default_rng(0).integers(0, 64, (1500, 1500, 3), dtype=np.uint8)
    first = save(folder / "0.png", image, compress_level=1)
    for number in range(1, 10):
        os.link(first, folder / f"{number}.png")
    return 10 * int(image.sum())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_builder_that_is_stopped(tmp_path, said, how):
    total = slow_images(tmp_path / "data")
    builder = start(tmp_path)
    while not (partial := list((tmp_path / "cache").glob(".train-*.partial"))):
        assert builder.poll() is None, builder.communicate()
        time.sleep(0.002)
    builder.send_signal(how)
    out, err = builder.communicate(timeout=60)
    assert "made in" not in err
    if how == signal.SIGINT:
        assert (builder.returncode, out) == (130, "")
        assert not partial[0].exists()
    else:
        assert builder.returncode == -signal.SIGKILL
        assert partial[0].exists()  # nobody was left to remove it
    assert not list((tmp_path / "cache").glob("train-*.[!l]*"))
    paths = sorted((tmp_path / "data").iterdir())
    read = opened(tmp_path, paths)
    assert "made in" in said()
    assert sum(int(read(path).sum()) for path in paths) == total
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".json", ".lock", ".pixels"]


def test_of_two_processes_one_makes_it_and_the_other_waits(tmp_path):
    paths = [save(tmp_path / f"data/{number}.png", picture(number)) for number in range(3)]
    lock = Place(tmp_path / "cache", tmp_path / "data", "train").path("lock")
    lock.parent.mkdir()
    with lock.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        both = [start(tmp_path) for _ in range(2)]
        for process in both:  # each says that it waits, and makes nothing
            assert process.stderr.readline().startswith(f"waiting for the process that holds {lock}: ")
        assert list(lock.parent.iterdir()) == [lock]
    ends = [process.communicate(timeout=60) for process in both]
    assert {out for out, _ in ends} == {f"{sum(int(read_rgb(path).sum()) for path in paths)}\n"}
    assert sorted("made in" in err for _, err in ends) == [False, True]


# --- folders that cannot be used ---


def test_without_a_folder_training_decodes(tmp_path, said):
    (tmp_path / "file").write_text("precious")
    dataset = cached(TripletDataset(NEON, "val", seed=0), tmp_path / "file" / "cache")
    text = said()
    assert text.count("WARNING") == 2  # val, and ref for its references
    assert f"(slower): {tmp_path}/file/cache/" in text
    assert "Not a directory" in text
    found, expected = (
        data.sample(0, np.random.default_rng(0)) for data in (dataset, TripletDataset(NEON, "val", seed=0))
    )
    np.testing.assert_array_equal(found["hr"], expected["hr"])
    np.testing.assert_array_equal(found["reference"], expected["reference"])


def test_a_disk_that_refuses_while_it_is_written(tmp_path, said):
    paths = mixture(tmp_path / "data")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, former[1]))  # Python ignores the signal, so that writing fails
    try:
        pixels = open_cache(Place(tmp_path / "cache", tmp_path / "data", "train"), paths)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert pixels is None
    assert "cannot be written (File too large)" in said()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("options", "reason"), [("ro", "Read-only file system"), ("size=4k", "MB free, but the cache of 3 decoded images")]
)
def test_a_read_only_or_full_disk(tmp_path, options, reason):
    for number in range(3):
        save(tmp_path / f"data/{number}.png", picture(number))
    folder = tmp_path / "cache"
    folder.mkdir()
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o "$1" tmpfs "$2" || exit 99; shift 2; exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*mount, options, folder, "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    process = start(tmp_path, *mount, options, str(folder))
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "None\n"), err
    assert "no cache of decoded images, so each is decoded every time it is drawn (slower): " in err
    assert str(folder) in err
    assert reason in err


# --- workers ---


def total_of(read: CachedImages, paths: list[Path]) -> int:
    return sum(int(read(path).sum(dtype=np.int64)) for path in paths)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_workers_map_the_file_for_themselves(tmp_path, method):
    paths = mixture(tmp_path / "data")
    read = opened(tmp_path, paths)
    assert len(pickle.dumps(read)) < 1500  # places, no pixels
    for path in paths:  # decoding is no way out for the worker
        path.unlink()
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(total_of, (read, paths)) == total_of(read, paths)


def test_a_late_worker_never_reads_pixels_of_another_index(tmp_path, said):
    read = opened(tmp_path, paths := mixture(tmp_path / "data"))
    sent = pickle.dumps(read)
    require_same(pickle.loads(sent), paths)
    save(paths[0], picture(9, 64, 16))
    opened(tmp_path, paths)  # another training makes it anew
    late = pickle.loads(sent)
    said()
    require_same(late, paths)
    assert said().count("images are decoded each time they are drawn, which is slower") == 1
