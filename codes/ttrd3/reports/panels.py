"""Side-by-side pictures: LR, bicubic, SR, reference and HR of one image, with captions and a magnified crop."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

WHITE, INK, FAINT, EMPTY, ACCENT = "#ffffff", "#1a1a1a", "#666666", "#f2f2f2", "#e8590c"
LEAST_TILE = 256  # px; smaller images are enlarged by a whole factor, so that captions fit above them
MAGNIFICATION = 3


def panel(
    images: Mapping[str, np.ndarray | None],
    captions: Mapping[str, str] | None = None,
    *,
    zoom: bool = False,
    guide: str = "HR",
) -> np.ndarray:
    """One picture that shows images side by side, in the order given, each with its name above.

    Args:
        images: {name: (h, w, 3) uint8}; None leaves an empty tile that says "no NAME". What is smaller than the
            guide is enlarged by nearest neighbour, so that its pixels show; what is larger is shrunk to fit.
        captions: {name: second line}, for example "27.31 dB / .802".
        zoom: Add a second row: the same crop of each, where the guide has most detail, magnified 3 times.
        guide: The name of the image whose size the tiles take and whose detail places the crop.

    Returns:
        (H, W, 3) uint8 on white; five tiles of 256 px make W = 1376.
    """
    target = images[guide]
    height, width = target.shape[:2]
    tiles = {name: None if image is None else _fitted(image, height, width) for name, image in images.items()}
    enlarge = -(-LEAST_TILE // width)
    draw = _Sheet(len(tiles), width * enlarge, height * enlarge, captions is not None, zoom)
    box = _detail_box(target) if zoom else None
    for column, (name, tile) in enumerate(tiles.items()):
        draw.caption(column, name, (captions or {}).get(name, ""))
        if tile is None:
            draw.empty(column, f"no {name}")
            continue
        draw.tile(column, tile, enlarge)
        if box:
            draw.crop(column, tile, box, enlarge)
    return np.asarray(draw.picture)


def contact_sheet(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Panels (h, w, 3) uint8 under one another, at the left edge, on white: (sum of h, largest w, 3) uint8."""
    sheet = Image.new("RGB", (max(p.shape[1] for p in panels), sum(p.shape[0] for p in panels)), WHITE)
    top = 0
    for picture in panels:
        sheet.paste(Image.fromarray(picture), (0, top))
        top += picture.shape[0]
    return np.asarray(sheet)


def _fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, 3) -> (height, width, 3) in its own proportions, grey where it does not reach."""
    smaller = image.shape[0] <= height and image.shape[1] <= width
    method = Image.Resampling.NEAREST if smaller else Image.Resampling.LANCZOS
    return np.asarray(ImageOps.pad(Image.fromarray(image), (width, height), method, EMPTY))


def _detail_box(image: np.ndarray, grid: int = 4) -> tuple[int, int, int, int]:
    """The window of a third of each side with the largest sum of grey-level differences: (left, top, right, bottom).

    Its edges lie on a grid of 4 pixels (the scale), so that it holds whole LR pixels. Of equals the first, by rows.
    """
    grey = image.mean(axis=2)
    slope = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    height, width = (max(grid, side // MAGNIFICATION // grid * grid) for side in grey.shape)
    area = np.pad(slope.cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # (H, W): area[y, x] sums slope[:y, :x]
    # A window of n pixels has n - 1 differences inside it.
    inner = area[height - 1 :, width - 1 :] - area[height - 1 :, : -width + 1]
    inner = inner - area[: -height + 1, width - 1 :] + area[: -height + 1, : -width + 1]
    inner = inner[::grid, ::grid]
    top, left = (int(index) * grid for index in np.unravel_index(inner.argmax(), inner.shape))
    return left, top, left + width, top + height


class _Sheet:
    """The white sheet of a panel and where things stand on it."""

    def __init__(self, columns: int, tile_width: int, tile_height: int, second_line: bool, second_row: bool):
        self.width, self.height = tile_width, tile_height
        self.gap = tile_width // 16
        self.size = tile_width // 12  # of the font, px
        self.line = self.size * 5 // 4
        self.strip = self.gap // 2 + self.line * (2 if second_line else 1) + self.gap // 3
        rows = 2 if second_row else 1
        self.picture = Image.new(
            "RGB",
            (columns * (self.width + self.gap) + self.gap, self.strip + rows * (self.height + self.gap // 2)),
            WHITE,
        )
        self.draw = ImageDraw.Draw(self.picture)

    def corner(self, column: int, row: int) -> tuple[int, int]:
        return self.gap + column * (self.width + self.gap), self.strip + row * (self.height + self.gap // 2)

    def caption(self, column: int, first: str, second: str) -> None:
        left, top = self.corner(column, 0)[0], self.gap // 2
        self.text((left + self.width // 2, top), first, INK, self.size, "ma")
        self.text((left + self.width // 2, top + self.line), second, FAINT, self.size * 5 // 6, "ma")

    def text(self, place: tuple[int, int], text: str, colour: str, size: int, anchor: str) -> None:
        """Draw one line, cut at its end where it is wider than a tile."""
        font = ImageFont.load_default(size)
        shown = text
        while font.getlength(shown) > self.width:
            text = text[:-1]
            shown = text + "..."
        self.draw.text(place, shown, colour, font, anchor)

    def empty(self, column: int, text: str) -> None:
        """Fill a whole column with grey and say why."""
        left, top = self.corner(column, 0)
        bottom = self.picture.height - self.gap // 2
        self.draw.rectangle((left, top, left + self.width - 1, bottom - 1), EMPTY)
        self.text((left + self.width // 2, (top + bottom) // 2), text, FAINT, self.size, "mm")

    def tile(self, column: int, tile: np.ndarray, enlarge: int) -> None:
        self.paste(tile.repeat(enlarge, 0).repeat(enlarge, 1), self.corner(column, 0))

    def crop(self, column: int, tile: np.ndarray, box: tuple[int, int, int, int], enlarge: int) -> None:
        """Frame the crop in the first row and show it, magnified, in the middle of the second row's place."""
        stroke = max(2, self.width // 128)
        x, y = self.corner(column, 0)
        left, top, right, bottom = (side * enlarge for side in box)
        self.frame((x + left, y + top, x + right, y + bottom), stroke)
        factor = MAGNIFICATION * enlarge
        large = tile[box[1] : box[3], box[0] : box[2]].repeat(factor, 0).repeat(factor, 1)
        x, y = self.corner(column, 1)
        x, y = x + (self.width - large.shape[1]) // 2, y + (self.height - large.shape[0]) // 2
        self.paste(large, (x, y))
        self.frame((x, y, x + large.shape[1], y + large.shape[0]), stroke)

    def frame(self, box: tuple[int, int, int, int], stroke: int) -> None:
        """A frame around the pixels of `box`, all of it outside them."""
        left, top, right, bottom = box
        outer = (left - stroke, top - stroke, right + stroke - 1, bottom + stroke - 1)
        self.draw.rectangle(outer, outline=ACCENT, width=stroke)

    def paste(self, image: np.ndarray, corner: tuple[int, int]) -> None:
        self.picture.paste(Image.fromarray(image), corner)
