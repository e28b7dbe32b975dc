import numpy as np
import pytest
from builders import picture

from ttrd3.data.augment import apply_symmetry, draw_symmetry, draw_window, lr_window
from ttrd3.errors import DataError


def test_the_eight_symmetries_are_all_different_and_keep_the_pixels():
    image = picture(0)
    turned = [apply_symmetry(image, symmetry) for symmetry in range(8)]
    assert len({array.tobytes() for array in turned}) == 8
    for array in turned:
        assert np.array_equal(np.sort(array.ravel()), np.sort(image.ravel()))
    np.testing.assert_array_equal(turned[4], image[:, ::-1])


def test_all_symmetries_are_drawn_and_only_those_that_keep_the_shape():
    rng = np.random.default_rng(0)
    assert {draw_symmetry(rng, (8, 8, 3)) for _ in range(200)} == set(range(8))
    drawn = {draw_symmetry(rng, (8, 12, 3)) for _ in range(200)}
    assert len(drawn) == 4
    for symmetry in drawn:
        assert apply_symmetry(picture(0, 8, 12), symmetry).shape == (8, 12, 3)


def test_windows_lie_on_the_lr_grid_and_reach_every_place():
    rng = np.random.default_rng(0)
    corners = set()
    for _ in range(300):
        rows, columns = draw_window(rng, (24, 16, 3), 8)
        assert rows.stop - rows.start == columns.stop - columns.start == 8
        corners.add((rows.start, columns.start))
        small = lr_window((rows, columns))
        assert [(part.start * 4, part.stop * 4) for part in small] == [(p.start, p.stop) for p in (rows, columns)]
    assert corners == {(top, left) for top in range(0, 17, 4) for left in range(0, 9, 4)}
    assert draw_window(rng, (24, 16, 3), None) == (slice(0, 24), slice(0, 16))


def test_a_window_larger_than_the_image_is_refused():
    with pytest.raises(DataError, match="crop: 64 pixels asked for, but an image has 32 x 24"):
        draw_window(np.random.default_rng(0), (24, 32, 3), 64)
