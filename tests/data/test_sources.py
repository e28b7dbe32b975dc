import os

import pytest
from builders import class_folders, picture, save

from ttrd3.data.sources import Source, list_sources
from ttrd3.data.splits import assign_splits, read_list
from ttrd3.errors import DataError, UserError

NO_SHARES = {"val": 0.0, "test": 0.0, "ref": 0.0}


def refused(folder, *texts, **options):
    with pytest.raises(DataError) as error:
        list_sources(folder, **options)
    for text in texts:
        assert text in str(error.value)


def names(count: int) -> list[Source]:
    return [Source(f"a/a{number:04d}.png", "a", None) for number in range(count)]


def test_class_folders(tmp_path):
    class_folders(tmp_path, {"forest": 2, "meadow": 1})
    (tmp_path / "forest" / "Thumbs.db").write_text("")
    (tmp_path / "forest" / "._forest00.png").write_text("")
    listing = list_sources(tmp_path)
    assert [(source.name, source.class_name) for source in listing.sources] == [
        ("forest/forest00.png", "forest"),
        ("forest/forest01.png", "forest"),
        ("meadow/meadow00.png", "meadow"),
    ]
    assert not listing.paired
    assert listing.ignored == ["forest/Thumbs.db"]


def test_linked_class_folders_are_followed(tmp_path):
    class_folders(tmp_path / "elsewhere", {"forest": 1})
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "wood").symlink_to(tmp_path / "elsewhere" / "forest")
    assert [source.name for source in list_sources(tmp_path / "raw").sources] == ["wood/forest00.png"]


def test_bare_folder(tmp_path):
    for name in ("b.TIF", "a.jpeg"):
        save(tmp_path / name, picture(0))
    found = [(source.name, source.class_name) for source in list_sources(tmp_path).sources]
    assert found == [("a.jpeg", "images"), ("b.TIF", "images")]


def test_paired_folders_pair_by_name_whatever_the_suffix(tmp_path):
    for name in ("hr/a.png", "hr/b.png", "ref/a.jpg", "ref/b.png"):
        save(tmp_path / name, picture(0))
    listing = list_sources(tmp_path)
    assert listing.paired
    assert [(source.name, source.reference.name) for source in listing.sources] == [
        ("a.png", "a.jpg"),
        ("b.png", "b.png"),
    ]
    assert not listing.problems


def test_what_does_not_pair_is_told(tmp_path):
    for name in ("hr/a.png", "hr/b.png", "hr/c.png", "ref/a.png", "ref/a.jpg", "ref/d.png", "ref/c.png"):
        save(tmp_path / name, picture(0))
    listing = list_sources(tmp_path)
    assert [source.name for source in listing.sources] == ["c.png"]
    assert sorted(listing.problems) == ["hr/a.png", "hr/b.png", "ref/d.png"]
    assert "2 references (a.jpg, a.png)" in listing.problems["hr/a.png"]
    assert "no reference of the same name" in listing.problems["hr/b.png"]


def test_sources_that_leave_doubt_are_refused(tmp_path):
    refused(tmp_path / "absent", "absent is not a folder")
    refused(tmp_path, "no images in it")
    class_folders(tmp_path / "UCMerced" / "Images", {"forest": 1})
    refused(tmp_path, "deeper than CLASS/NAME", f"as {tmp_path / 'UCMerced' / 'Images'}")
    save(tmp_path / "UCMerced" / "Images" / "stray.png", picture(0))
    refused(tmp_path / "UCMerced" / "Images", "1 images lie beside the class folders: stray.png")
    refused(tmp_path, "no hr/ and ref/ folders", paired=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    class_folders(tmp_path, {"forest": 1, "meadow": 1})
    (tmp_path / "meadow").chmod(0)
    refused(tmp_path, "meadow", "cannot be read")


def test_the_digest_sees_names_and_sizes(tmp_path):
    digests = set()
    for change in (
        lambda: class_folders(tmp_path, {"forest": 2}),
        lambda: save(tmp_path / "forest" / "new.png", picture(0)),
        lambda: save(tmp_path / "forest" / "new.png", picture(0, 64, 64)),
        lambda: (tmp_path / "forest" / "new.png").rename(tmp_path / "forest" / "newer.png"),
    ):
        change()
        digests.add(list_sources(tmp_path).digest())
    assert len(digests) == 4
    assert list_sources(tmp_path).digest() in digests


def test_shares_are_met_and_a_name_never_changes_its_split():
    shares = {"val": 0.1, "test": 0.2, "ref": 0.3}
    splits = assign_splits(names(4000), shares, {})
    for split, share in {**shares, "train": 0.4}.items():
        assert abs(list(splits.values()).count(split) / 4000 - share) < 0.025
    assert assign_splits(names(50), shares, {}).items() <= splits.items()
    other_suffix = [Source("a/a0007.webp", "a", None)]
    assert assign_splits(other_suffix, shares, {})["a/a0007.webp"] == splits["a/a0007.png"]
    assert set(assign_splits(names(99), {"val": 1.0, "test": 0.0, "ref": 0.0}, {}).values()) == {"val"}


def test_lists_take_names_stems_and_patterns_and_replace_the_share():
    lists = {"val": ["a/a0001.png", "a/a0002"], "test": ["*1[0-9].png"]}
    splits = assign_splits(names(30), {"val": 1.0, "test": 1.0, "ref": 0.0}, lists)
    assert [name for name in splits if splits[name] == "val"] == ["a/a0001.png", "a/a0002.png"]
    assert sorted(name for name in splits if splits[name] == "test") == [
        f"a/a00{number}.png" for number in range(10, 20)
    ]
    assert list(splits.values()).count("train") == 18


def test_lists_that_match_nothing_or_twice_are_refused():
    with pytest.raises(DataError, match=r"--val-list: 'b/\*' matches no image.*'a/a0000.png'"):
        assign_splits(names(3), NO_SHARES, {"val": ["b/*"]})
    with pytest.raises(DataError, match=r"--test-list: a/a0001.png also in --val-list"):
        assign_splits(names(3), NO_SHARES, {"val": ["*1.png"], "test": ["a/a0001"]})


def test_list_files(tmp_path):
    path = tmp_path / "val.txt"
    path.write_text("# held out\n\n a/b.png \n*9.*\n")
    assert read_list(path, "--val-list") == ["a/b.png", "*9.*"]
    path.write_text("# nothing\n")
    with pytest.raises(UserError, match=r"--val-list: .*val.txt lists nothing"):
        read_list(path, "--val-list")
    with pytest.raises(UserError, match=r"--val-list: .*absent.txt cannot be read"):
        read_list(tmp_path / "absent.txt", "--val-list")
