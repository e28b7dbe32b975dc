import numpy as np
import pytest
from PIL import Image

from ttrd3.reports.panels import contact_sheet, panel

NAMES = ["LR", "bicubic", "SR", "reference", "HR"]
SIDE, GAP, ORANGE, GREY = 256, 16, (232, 89, 12), (242, 242, 242)


def scene(seed=0, side=SIDE):
    return np.random.default_rng(seed).integers(0, 200, (side, side, 3), dtype=np.uint8)


def five(hr):
    small = Image.fromarray(hr).resize((hr.shape[1] // 4, hr.shape[0] // 4), Image.Resampling.BICUBIC)
    up = np.asarray(small.resize((hr.shape[1], hr.shape[0]), Image.Resampling.BICUBIC))
    return dict(zip(NAMES, [np.asarray(small), up, scene(1, len(hr)), scene(2, len(hr)), hr], strict=True))


def column(picture, index, width=SIDE):
    left = GAP + index * (width + GAP)
    return picture[:, left : left + width]


def find(picture, tile):
    """The top row of `tile` in a picture of the same width, which must hold it exactly once."""
    height = len(tile)
    tops = [y for y in range(len(picture) - height + 1) if (picture[y : y + height] == tile).all()]
    assert len(tops) == 1
    return tops[0]


def lonely_detail():
    """A flat image with one textured square, 60 x 60 at row 150, column 40."""
    hr = np.full((SIDE, SIDE, 3), 90, np.uint8)
    hr[150:210, 40:100] = scene(3, 60)
    return hr


def test_every_image_is_shown_pixel_by_pixel_at_one_height():
    images = five(scene())
    picture = panel(images)
    assert picture.shape[1] == 5 * SIDE + 6 * GAP == 1376
    assert picture.dtype == np.uint8
    shown = {**images, "LR": images["LR"].repeat(4, 0).repeat(4, 1)}
    tops = {find(column(picture, index), shown[name]) for index, name in enumerate(NAMES)}
    assert len(tops) == 1


def test_gutters_are_white_and_captions_stand_above():
    picture = panel(five(scene()))
    top = find(column(picture, 4), scene())
    for index in range(6):
        left = index * (SIDE + GAP)
        assert (picture[:, left : left + GAP] == 255).all()
    for index in range(5):
        assert (column(picture, index)[:top] < 100).any(), "no ink above a tile"


def test_a_second_line_adds_ink_and_height_and_only_there():
    plain, told = panel(five(scene())), panel(five(scene()), {"SR": "27.31 dB / .8020"})
    extra = len(told) - len(plain)
    assert extra > 0
    first_line = find(column(plain, 4), scene()) - 5
    assert (told[first_line : first_line + extra - 5, :][:, GAP + 2 * (SIDE + GAP) :][:, :SIDE] < 200).any()
    assert (column(told, 1)[first_line : first_line + extra] == 255).all()


def test_a_caption_too_wide_for_its_tile_stays_above_it():
    long, short = (panel(five(scene()), {"SR": text}) for text in ("a name without any end " * 9, "short"))
    assert (column(long, 2) != column(short, 2)).any()
    assert (
        np.delete(long, np.s_[GAP + 2 * (SIDE + GAP) : GAP + 3 * (SIDE + GAP)], 1)
        == np.delete(short, np.s_[GAP + 2 * (SIDE + GAP) : GAP + 3 * (SIDE + GAP)], 1)
    ).all()


@pytest.mark.parametrize("zoom", [False, True])
def test_a_missing_reference_is_an_empty_tile_with_words_in_it(zoom):
    images = {**five(scene()), "reference": None}
    picture = panel(images, zoom=zoom)
    top = find(column(panel(images), 4), scene())  # with zoom a frame lies on the tile
    tile = column(picture, 3)[top : len(picture) - GAP // 2]
    assert (tile[:20] == GREY).all()
    assert (tile[-20:] == GREY).all()
    assert (tile < 130).any()


def test_zoom_shows_the_same_crop_of_each_around_the_most_detail():
    images = five(lonely_detail())
    picture = panel(images, zoom=True)
    # 84 = 256 // 3 down to whole LR pixels; it must hold the textured square and lie on the LR grid.
    frame = np.argwhere((column(picture, 4) == ORANGE).all(-1))
    tile_top = find(column(panel(images), 4), images["HR"])
    left, top = frame[:, 1][frame[:, 0] < tile_top + SIDE].min() + 2, frame[:, 0].min() + 2 - tile_top
    assert left % 4 == top % 4 == 0
    assert left <= 40 <= 100 <= left + 84
    assert top <= 150 <= 210 <= top + 84
    tops = set()
    for index, name in enumerate(NAMES):
        image = images[name] if name != "LR" else images[name].repeat(4, 0).repeat(4, 1)
        crop = image[top : top + 84, left : left + 84].repeat(3, 0).repeat(3, 1)
        tops.add(find(column(picture, index)[:, 2 : 2 + 252], crop))
    assert len(tops) == 1
    assert tops.pop() >= tile_top + SIDE


def test_the_frame_lies_outside_the_crop_that_it_marks():
    images = five(lonely_detail())
    marked = column(panel(images, zoom=True), 4)
    top = find(column(panel(images), 4), images["HR"])
    changed = (marked[top : top + SIDE] != images["HR"]).any(-1)
    rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
    inside = changed[rows[0] + 2 : rows[-1] - 1, columns[0] + 2 : columns[-1] - 1]
    assert inside.shape == (84, 84)
    assert not inside.any()


def test_the_same_images_give_the_same_picture():
    assert (panel(five(scene()), zoom=True) == panel(five(scene()), zoom=True)).all()


def test_small_images_are_enlarged_by_a_whole_factor():
    images = five(scene(side=64))
    picture = panel(images)
    assert picture.shape[1] == 1376
    find(column(picture, 2), images["SR"].repeat(4, 0).repeat(4, 1))
    find(column(picture, 0), images["LR"].repeat(16, 0).repeat(16, 1))


def test_images_that_are_not_square_and_references_of_another_shape_fit():
    hr = scene()[:128]
    reference = np.full((400, 400, 3), 50, np.uint8)
    picture = panel({"reference": reference, "HR": hr})
    top = find(column(picture, 1), hr)
    tile = column(picture, 0)[top : top + 128]
    assert (tile[:, 64:192] == 50).all()
    assert (tile[:, :64] == GREY).all()
    assert (tile[:, 192:] == GREY).all()


def test_without_hr_another_image_guides():
    images = {name: image for name, image in five(scene()).items() if name != "HR"}
    picture = panel(images, zoom=True, guide="SR")
    assert picture.shape[1] == 4 * SIDE + 5 * GAP


def test_contact_sheet_stacks_panels_on_white():
    wide, narrow = np.zeros((10, 30, 3), np.uint8), np.full((5, 20, 3), 7, np.uint8)
    sheet = contact_sheet([wide, narrow])
    assert sheet.shape == (15, 30, 3)
    assert (sheet[:10] == 0).all()
    assert (sheet[10:, :20] == 7).all()
    assert (sheet[10:, 20:] == 255).all()
