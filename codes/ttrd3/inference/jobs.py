"""One image file -> its enlarged file: finished ones are left, interrupted ones go on, nothing half-written shows."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.windows import Window
from tqdm import tqdm

from ttrd3 import __version__
from ttrd3.data.degrade import SCALE
from ttrd3.errors import DataError, UserError
from ttrd3.files import PARTIAL
from ttrd3.inference import pictures, raster
from ttrd3.inference.assemble import Assembler
from ttrd3.inference.cog import Layout, Pixels, about_of, space_needed, write_cog
from ttrd3.inference.enlarge import Scene
from ttrd3.inference.file_options import FileOptions, spread_path
from ttrd3.inference.georeference import GeoReference, is_georeferenced
from ttrd3.inference.pictures import ArrayScene, open_picture, picture_about, require_writable_size, write_picture
from ttrd3.inference.ranges import as_bytes
from ttrd3.inference.raster import RasterScene, open_raster
from ttrd3.inference.rasters import RasterPixels
from ttrd3.inference.reference_option import reference_path
from ttrd3.inference.references import NoReference, PictureReference, ReferenceSource
from ttrd3.inference.retrieval import Library
from ttrd3.inference.share import ALONE, Share
from ttrd3.inference.store import MemoryTiles, TileFolder, TileStore, prepare_folder, remove_folder, work_of
from ttrd3.inference.tiles import Tiler
from ttrd3.inference.upscaler import Upscaler

logger = logging.getLogger(__name__)

_IN_MEMORY = 16  # tiles of an image that is done by one process in one go
_SHAPE = "tile_shape"  # (height, width) of the tiles in a folder, which may be smaller than those asked for


class Job:
    """One file, open for as long as the `stack` that it was opened with."""

    def __init__(
        self, upscaler: Upscaler, source: Path, output: Path, options: FileOptions, stack: contextlib.ExitStack
    ):
        """Open the file and its reference.

        Raises:
            UserError: Either cannot be used.
        """
        self.upscaler, self.source, self.output, self.options = upscaler, source, output, options
        if output.exists() and source.exists() and output.samefile(source):
            raise DataError(f"{source}: the result would take the input's place. Choose another --out.")
        self.scene = _open_scene(source, options, stack)
        self.references = self._open_reference(stack)
        settings = asdict(upscaler.settings)
        for name in ("batch_size", "feature_memory"):  # without influence on the result
            del settings[name]
        used = upscaler.restorer  # with the weights' own values where none were asked for
        settings |= {name: getattr(used, name) for name in ("steps", "strength", "eta", "fidelity", "ensemble")}
        apart = ["reference", "overwrite", "format"]
        if not isinstance(self.scene, RasterScene):
            apart.append("other_bands")  # a picture has none
        asked = {part.name: getattr(options, part.name) for part in fields(options) if part.name not in apart}
        asked["bands"] = None if options.bands is None else list(options.bands)
        asked["value_range"] = None if options.value_range is None else list(options.value_range)
        self.about: dict[str, Any] = {
            "ttrd3": __version__, "weights": upscaler.trained.fingerprint, "input": self.scene.identity,
            "reference": self.references.identity, **settings, **asked,
        }  # fmt: skip

    @property
    def _folder(self) -> Path:
        """Where tiles wait that are done."""
        return self.output.with_name(f".{self.output.name}{PARTIAL}")

    @property
    def tiles(self) -> int:
        """How many tiles it has."""
        return len(self._tiler(self.upscaler.settings.tile, 1).grid)

    def is_finished(self) -> bool:
        """Whether all results are there already, made from the same file in the same way.

        Raises:
            DataError: Another file has the name of one.
        """
        results = [self.output, *([spread_path(self.output)] if self.options.samples > 1 else [])]
        made = [self._is_made(path) for path in results]  # every one is looked at
        return all(made)

    def _is_made(self, path: Path) -> bool:
        if not path.exists():
            return False
        about = about_of(path) if path.suffix.lower() in raster.SUFFIXES else picture_about(path)
        if about == self.about:
            return True
        if not self.options.overwrite:
            how = "was not made by `ttrd3 upscale`" if about is None else "was made with other options or inputs"
            raise DataError(f"{path}: is there already and {how}. Choose another --out, or add --overwrite.")
        return False

    def run(self, share: Share = ALONE) -> None:
        """Restore all tiles, with other processes if there are any, and write the result.

        Raises:
            UserError: The input is damaged, or the disk full; finished tiles are kept for the next time.
        """
        tile, batch_size = self._first_tile(share), self.upscaler.batch_size
        while True:
            tiler = self._tiler(tile, batch_size)
            try:
                with self._store(tiler, share) as store:
                    self._restore(tiler, store, share)
                    share.together(lambda: self._write(tiler, store) if share.rank == 0 else None)  # noqa: B023
                return
            except (RuntimeError, MemoryError) as error:
                tile, batch_size = self.upscaler.smaller(tile, batch_size, error)

    def _first_tile(self, share: Share) -> int:
        """The tile that is asked for, or the smaller one that memory forced on a run that was interrupted."""
        asked = self.upscaler.settings.tile
        work = share.gather(work_of(self._folder) if share.rank == 0 else None)[0]  # one process's view
        if not work or work != self.about | {_SHAPE: work.get(_SHAPE)}:
            return asked
        tile = SCALE * max(work[_SHAPE])  # one side is whole: a folder holds several tiles
        if tile != asked:
            logger.info("%s: goes on with tiles of %d x %d pixels, as memory ran out before", self.source, tile, tile)
        return tile

    def _tiler(self, tile: int, batch_size: int) -> Tiler:
        return self.upscaler.tiler(self.scene, self.references, self.options.samples, tile, batch_size)

    def _open_reference(self, stack: contextlib.ExitStack) -> ReferenceSource:
        if self.options.reference is None or self.upscaler.restorer.strength == 0:
            return NoReference()
        if isinstance(self.options.reference, Library):
            return self.options.reference.references(self.source, self.upscaler.multiple)
        path = reference_path(self.options.reference, self.source)
        if path.samefile(self.source):
            raise DataError(f"{self.source}: is its own --reference. Give another one, or --reference none.")
        if self.output.exists() and self.output.samefile(path):
            raise DataError(f"{path}: the result would take the reference's place. Choose another --out.")
        if path.suffix.lower() in raster.SUFFIXES:
            dataset = stack.enter_context(open_raster(path))
            bands = raster.reference_bands(path, dataset, self.options.bands)
            reference = RasterScene(path, dataset, bands, None)
            if is_georeferenced(reference) and isinstance(self.scene, RasterScene):
                if is_georeferenced(self.scene):
                    return GeoReference(reference, self.scene, stack)
                logger.warning(
                    "%s: has no CRS or transform, so that the same place in %s cannot be found; that is used as a "
                    "picture of a similar place", self.source, path,
                )  # fmt: skip
            return PictureReference(reference, str(path), self.upscaler.multiple)
        return PictureReference(open_picture(path), str(path), self.upscaler.multiple)

    @contextlib.contextmanager
    def _store(self, tiler: Tiler, share: Share) -> Iterator[TileStore]:
        if len(tiler.grid) <= _IN_MEMORY and share.size == 1:
            yield MemoryTiles()
            return
        folder = self._folder
        with contextlib.ExitStack() as stack:

            def prepare() -> None:
                if share.rank == 0:
                    about = self.about | {_SHAPE: list(tiler.grid.tile_shape)}
                    lock = prepare_folder(folder, about, self._space(tiler))
                    stack.callback(lock.release)

            share.together(prepare)
            store = stack.enter_context(contextlib.closing(TileFolder(folder, tiler.shape, share.rank)))
            yield store
        if share.rank == 0:
            remove_folder(folder)

    def _space(self, tiler: Tiler) -> int:
        tiles = len(tiler.grid) * 2 * int(np.prod(tiler.shape))
        area = SCALE * SCALE * self.scene.height * self.scene.width
        layout = self._layout()
        return tiles + (4 * area if layout is None else space_needed(layout)) + (30 * area) * (self.options.samples > 1)

    def _restore(self, tiler: Tiler, store: TileStore, share: Share) -> None:
        done = store.done() if share.rank == 0 else set()
        done = share.gather(done)[0]  # one process's view: the others may have begun to write
        missing = sorted(set(range(len(tiler.grid))) - done)
        if done:
            logger.info("%s: goes on with %d of %d tiles done", self.source, len(done), len(tiler.grid))
        silent = share.rank > 0 or not sys.stderr.isatty() or len(missing) == 1
        with tqdm(total=len(tiler.grid), initial=len(done), desc=self.source.name, unit="tile", disable=silent) as bar:

            def put(number: int, tile: np.ndarray) -> None:
                store.put(number, tile)
                bar.update(share.size)

            share.together(lambda: tiler.run(missing[share.rank :: share.size], put))

    def _layout(self) -> Layout | None:
        """Of the result where it is a raster."""
        if isinstance(self.scene, RasterScene):
            return RasterPixels(self.scene, self.options.other_bands).layout(self.about)
        if self.output.suffix.lower() not in raster.SUFFIXES:
            return None
        roles = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        width, height = SCALE * self.scene.width, SCALE * self.scene.height
        return Layout(width, height, 3, "uint8", self.about, colorinterp=roles)

    def _write(self, tiler: Tiler, store: TileStore) -> None:
        is_raster = isinstance(self.scene, RasterScene)
        raster_pixels = RasterPixels(self.scene, self.options.other_bands) if is_raster else None
        limits = raster_pixels.limits() if raster_pixels else (0.0, 1.0)
        assembler = Assembler(self.scene, tiler.grid, store, self.upscaler.settings.consistent, limits)
        if self.options.samples > 1:
            self._write_spread(assembler, raster_pixels)
        layout = self._layout()
        if layout is None:
            kind = pictures.SUFFIXES[self.output.suffix.lower()]
            write_picture(self.output, kind, assembler.whole(as_bytes), self.source, self.about)
        else:
            pixels = raster_pixels.pixels(assembler) if raster_pixels else _pixels(assembler, assembler.image, as_bytes)
            write_cog(self.output, layout, pixels)

    def _write_spread(self, assembler: Assembler, raster_pixels: RasterPixels | None) -> None:
        path = spread_path(self.output)
        if raster_pixels:
            write_cog(path, raster_pixels.spread_layout(self.about), raster_pixels.spread(assembler))
        else:
            width, height = SCALE * self.scene.width, SCALE * self.scene.height
            layout = Layout(width, height, 3, "float32", self.about)
            write_cog(path, layout, _pixels(assembler, assembler.spread, lambda std: std * 255))


def _open_scene(source: Path, options: FileOptions, stack: contextlib.ExitStack) -> Scene:
    if source.suffix.lower() in raster.SUFFIXES:
        dataset = stack.enter_context(open_raster(source))
        return RasterScene(source, dataset, options.bands, options.value_range)
    for name, given in (("--bands", options.bands), ("--range", options.value_range)):
        if given is not None:
            raise UserError(f"{source}: {name} is for TIFFs, and this is none. Leave it out.")
    return open_picture(source)


def _pixels(
    assembler: Assembler, part: Callable[..., np.ndarray], convert: Callable[[np.ndarray], np.ndarray]
) -> Iterator[Pixels]:
    for top, left, height, width in assembler.windows():
        values = convert(part(top, left, height, width)).transpose(2, 0, 1)
        yield Window(SCALE * left, SCALE * top, SCALE * width, SCALE * height), values, None


def require_output_size(job: Job) -> None:
    """Refuse a picture larger than its format can hold, before the work starts.

    Raises:
        DataError: Names the format.
    """
    kind = pictures.SUFFIXES.get(job.output.suffix.lower())
    if kind is not None and isinstance(job.scene, ArrayScene):
        require_writable_size(job.output, kind, SCALE * job.scene.height, SCALE * job.scene.width)
