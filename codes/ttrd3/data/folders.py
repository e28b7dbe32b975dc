"""Folders of images that belong together: the same scene has the same relative path, or at least the same name."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ttrd3.data.images import SUFFIXES, read_size
from ttrd3.data.layout import some
from ttrd3.errors import DataError


@dataclass(frozen=True)
class Match:
    """One scene.

    Attributes:
        name: Its relative path in the HR folder, without suffix.
        class_name: The folder that it lies in there (or else in the SR folder), relative; empty if there is none.
        paths: Its file in each folder, by the folder's role ("hr", "sr", ...).
    """

    name: str
    class_name: str
    paths: dict[str, Path]


def match_folders(folders: dict[str, Path], *, subset: bool = False) -> tuple[list[Match], int | None]:
    """Pair the images of several folders, and check their sizes by their headers.

    Args:
        folders: By role: "hr" and "sr" are needed, "lr" is smaller than them, all others must be as large as HR.
        subset: Whether HR (and LR) images may be there that SR lacks; they are left out.

    Returns:
        The scenes in the order of their names, and how many times larger HR is than LR (None without LR).

    Raises:
        DataError: A missing or empty folder, images without a counterpart, sizes that do not fit; names the files.
    """
    found = {role: _images(role, folder) for role, folder in folders.items()}
    keys = _common_keys(folders, found)
    by_key = {role: {keys[role][name]: name for name in names} for role, names in found.items()}
    wanted = set(by_key["sr"])
    for role, names in by_key.items():
        lacking = wanted - names.keys()
        if lacking:
            raise DataError(
                f"--{role} {folders[role]}: no image for {len(lacking)} of the {len(wanted)} in --sr {folders['sr']}: "
                f"{some(lacking)}. Give folders with the same names (relative paths, suffixes may differ)."
            )
        if names.keys() - wanted and not subset:
            extra = names.keys() - wanted
            raise DataError(
                f"--sr {folders['sr']}: no image for {len(extra)} of the {len(names)} in --{role} {folders[role]}: "
                f"{some(extra)}. Add them, or measure only those that are there with --subset."
            )
    matches = []
    scales: dict[int, str] = {}
    for key in sorted(wanted, key=lambda key: by_key["hr"][key]):
        paths = {role: found[role][names[key]] for role, names in by_key.items()}
        size = _checked_size(paths)
        if "lr" in paths:
            scales.setdefault(_scale(paths, size), key)
        name, class_name = by_key["hr"][key], _parent(by_key["hr"][key]) or _parent(by_key["sr"][key])
        matches.append(Match(name, class_name, paths))
    if len(scales) > 1:
        listed = ", ".join(f"x{scale} of {key}" for scale, key in sorted(scales.items()))
        raise DataError(f"--lr {folders['lr']}: found several scales: {listed}. Measure images of one scale at a time.")
    return matches, next(iter(scales), None)


def match_masks(folder: Path, matches: list[Match], *, subset: bool = False) -> dict[str, Path]:
    """The masks of `folder` by the scene's name; a scene without a mask has data everywhere.

    Raises:
        DataError: A missing or empty folder, a mask that belongs to no scene (unless `subset`), or of another size.
    """
    masks = _images("mask", folder)
    scenes = {match.name: match for match in matches}
    if not subset and (extra := masks.keys() - scenes.keys()):
        raise DataError(
            f"--mask {folder}: {len(extra)} masks belong to no image of --hr: {some(extra)}. Give the folder that "
            "belongs to it: the same relative paths."
        )
    found = {name: path for name, path in masks.items() if name in scenes}
    if not found:  # of a subset some masks are of images that it lacks, but all?
        raise DataError(
            f"--mask {folder}: none of its {len(masks)} masks belongs to an image that is measured: not {some(masks)}; "
            f"the images are {some(scenes)}. Give the folder with the same relative paths, or no --mask."
        )
    for name, path in found.items():
        hr = scenes[name].paths["hr"]
        if (size := read_size(path)) != (expected := read_size(hr)):
            raise DataError(
                f"{path}: found {size[0]} x {size[1]} pixels, expected the {expected[0]} x {expected[1]} of {hr}. "
                "Give the masks of these images."
            )
    return found


def _images(role: str, folder: Path) -> dict[str, Path]:
    """Relative path without suffix -> file, of all images below `folder`."""
    if not folder.is_dir():
        raise DataError(f"--{role} {folder}: no such folder. Give a folder of images.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() not in SUFFIXES or hidden or not path.is_file():
            continue
        name = relative.with_suffix("").as_posix()
        if name in found:
            raise DataError(f"{path}: two images have this name, the other is {found[name].name}. Remove one of them.")
        found[name] = path
    if not found:
        raise DataError(f"--{role} {folder}: found no images ({', '.join(sorted(SUFFIXES))}). Give another folder.")
    return found


def _common_keys(folders: dict[str, Path], found: dict[str, dict[str, Path]]) -> dict[str, dict[str, str]]:
    """By role: name -> what the same scene is called in every folder.

    That is the relative path; where folders are arranged differently (one flat, one with class folders), the file name.
    """
    by_path = {role: {name: name for name in names} for role, names in found.items()}
    if all(set(found["sr"]) <= set(names) for names in found.values()):
        return by_path
    by_name = {role: {name: name.rpartition("/")[2] for name in names} for role, names in found.items()}
    stems = {role: set(names.values()) for role, names in by_name.items()}
    if any(stems["sr"].isdisjoint(names) for names in stems.values()):
        return by_path  # nothing fits either way: the message should name whole paths
    for role, names in by_name.items():
        if len(stems[role]) < len(names):
            twice = sorted(names, key=lambda name: (names[name], name))
            first, second = next((a, b) for a, b in pairwise(twice) if names[a] == names[b])
            raise DataError(
                f"--{role} {folders[role]}: the folders are arranged differently, and a name stands for two images: "
                f"{first} and {second}. Arrange all folders alike: the same relative paths."
            )
    return by_name


def _checked_size(paths: dict[str, Path]) -> tuple[int, int]:
    size = read_size(paths["hr"])
    for role, path in paths.items():
        found = read_size(path)
        if role != "lr" and found != size:
            raise DataError(
                f"{path}: found {found[0]} x {found[1]} pixels, expected the {size[0]} x {size[1]} of {paths['hr']}. "
                "Compare an image with its own truth, at its size."
            )
    return size


def _scale(paths: dict[str, Path], size: tuple[int, int]) -> int:
    width, height = read_size(paths["lr"])
    scale = size[0] // width
    if scale < 1 or (width * scale, height * scale) != size:
        raise DataError(
            f"{paths['lr']}: found {width} x {height} pixels, expected a whole fraction of the "
            f"{size[0]} x {size[1]} of {paths['hr']}. Give the LR images of these HR images."
        )
    return scale


def _parent(name: str) -> str:
    return name.rpartition("/")[0]
