"""What a folder of images holds: splits, classes, image files, and what is left out of it.

Free of torch; nothing is decoded here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bitladder.data_names import files_below
from bitladder.errors import DataError

SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Names of the folders of each split, in small letters."""

_FORMATS = "jpg jpeg jpe jfif png bmp dib gif tif tiff webp avif jp2 ppm pgm pbm pnm tga"
SUFFIXES = frozenset(f".{suffix}" for suffix in _FORMATS.split())
"""Suffixes of image files, in small letters."""

_LEFT_BY_SYSTEMS = {
    "__macosx",
    "__pycache__",
    "@eadir",
    "lost+found",
    "thumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
}
_NAMED = 10  # in a message


@dataclass(frozen=True)
class Found:
    """Image files by split.

    Attributes:
        classes: names of the classes; labels count from 0 in this order.
        parts: (file, label) by split: ``train`` alone where the seed has to split it.
        notes: what was left out, and why.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, list[tuple[Path, int]]]
    notes: tuple[str, ...]


def search(root: Path) -> Found:
    """Find the images of ``ROOT/CLASS/image`` or ``ROOT/SPLIT/CLASS/image``.

    Raises:
        DataError: there are none, or their folders are not of this form.
    """
    folders = _folders(root)
    roles = {
        folder: role
        for folder in folders
        for role, names in SPLITS.items()
        if folder.name.lower() in names
    }
    splits = {folder: role for folder, role in roles.items() if _holds_classes(folder)}
    others = [folder for folder in folders if folder not in splits and _has_images(folder)]
    alone = len(splits) == 1 and any(folder not in roles for folder in others)
    if not splits or alone:  # a class may have the name of a split
        if others and all(folder in roles for folder in others):
            raise DataError(
                f"{root}: {_names(others)} hold images directly; put the images of each class "
                f"into a folder of its own: {others[0].name}/CLASS/image"
            )
        return _of_classes(root, root)
    by_role: dict[str, Path] = {}
    for folder, role in splits.items():
        if role in by_role:
            raise DataError(
                f"{root}: both {by_role[role].name} and {folder.name} hold the {role} images; "
                "leave one"
            )
        by_role[role] = folder
    for folder in others:
        if roles.get(folder) in ("train", "validation"):
            raise DataError(
                f"{folder}: holds images directly; put the images of each class into a folder of "
                f"its own: {folder.name}/CLASS/image"
            )
    notes = []
    if others:
        notes.append(f"{_names(others)} beside {_names(splits)} left out")
    if len(by_role) == 1:
        ((role, folder),) = by_role.items()
        found = _of_classes(root, folder)
        if role != "train":
            notes.append(_not_official(role, folder))
        return Found(found.classes, found.parts, (*notes, *found.notes))
    return _of_splits(root, by_role, notes)


def image_files(folder: Path) -> list[Path]:
    """Every image file below a folder, in the order of names.

    Raises:
        DataError: a folder cannot be read.
    """
    return [
        path for path in files_below(folder, wanted=_visible, failed=_refuse) if _is_image(path)
    ]


def _of_classes(root: Path, folder: Path) -> Found:
    """One pool of images, a folder a class."""
    classes, found, notes = _classes(folder)
    if not found:
        direct = [path for path in image_files(folder) if path.parent == folder]
        if direct:
            raise DataError(
                f"{folder}: holds images directly, such as {told(direct[0].name)}; put the images "
                "of each class into a folder of its own: CLASS/image"
            )
        seen = f" (there are {', '.join(notes)})" if notes else ""
        raise DataError(f"{root}: not a folder of images: no CLASS/image with a known suffix{seen}")
    if len(found) == 1:
        name = next(iter(found))
        deeper = _holds_classes(folder / name)
        hint = f"if its folders are the classes, give {folder / name}" if deeper else "give two"
        raise DataError(f"{folder}: there is only one class, {told(name)}; {hint}")
    labels = {name: label for label, name in enumerate(found)}
    pool = [(path, labels[name]) for name, paths in found.items() for path in paths]
    if empty := [name for name in classes if name not in found]:
        notes.insert(0, f"classes without images are left out: {_listed(empty)}")
    return Found(tuple(found), {"train": pool}, tuple(notes))


def _of_splits(root: Path, by_role: Mapping[str, Path], notes: list[str]) -> Found:
    """Splits in folders of their own; without a training folder the validation images are split."""
    read = {role: _classes(folder) for role, folder in by_role.items()}
    first = next(role for role in SPLITS if role in by_role)
    own, images, _ = read[first]
    if first != "train":
        notes.append(_not_official(first, by_role[first]))
    classes = [name for name in own if any(name in found for _, found, _ in read.values())]
    differences = []
    for role, (theirs, found, _) in read.items():
        if missing := [name for name in classes if name not in theirs]:
            differences.append(f"{by_role[role].name} has no {_listed(missing)}")
        if extra := [name for name in found if name not in own]:
            differences.append(f"{by_role[role].name} alone has {_listed(extra)}")
    if differences:
        raise DataError(f"{root}: the classes of the folders differ: {'; '.join(differences)}")
    if lacking := [name for name in classes if name not in images]:
        raise DataError(f"{by_role[first]}: no images of {_listed(lacking)}")
    if len(classes) < 2:
        raise DataError(f"{root}: there is only one class, {_listed(classes)}; give two")
    labels = {name: label for label, name in enumerate(classes)}
    parts = {}
    for role, (theirs, found, said) in read.items():
        parts["train" if role == first else role] = [
            (path, labels[name]) for name, paths in found.items() for path in paths
        ]
        notes += [f"{by_role[role].name}: {note}" for note in said]
        if empty := [name for name in theirs if name not in found]:
            notes.append(f"{by_role[role].name}: classes without images: {_listed(empty)}")
        if not found:
            raise DataError(f"{by_role[role]}: no images here")
    return Found(tuple(classes), parts, tuple(notes))


def _classes(folder: Path) -> tuple[list[str], dict[str, list[Path]], list[str]]:
    """Names of the classes, the images of those that have some, and what is left out."""
    notes: list[str] = []
    names = [inner.name for inner in _folders(folder)]
    found = {name: paths for name in names if (paths := image_files(folder / name))}
    skipped = Counter(
        path.suffix.lower() or "no suffix"
        for name in names
        for path in files_below(folder / name, wanted=_visible, failed=_refuse)
        if not _is_image(path)
    )
    if skipped:
        kinds = ", ".join(f"{told(kind)}: {count}" for kind, count in skipped.most_common(_NAMED))
        notes.append(f"{sum(skipped.values())} files without an image's suffix left out ({kinds})")
    direct = [path for path in _entries(folder) if _is_image(path) and not path.is_dir()]
    if found and direct:
        notes.append(f"{len(direct)} images outside of the classes' folders left out")
    return names, found, notes


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if _visible(path.name))
    except OSError as error:
        _refuse(error)
        raise


def _holds_classes(folder: Path) -> bool:
    """Whether there are images in the folders of a folder, and none in itself."""
    direct = any(_is_image(path) and not path.is_dir() for path in _entries(folder))
    return not direct and any(_has_images(inner) for inner in _folders(folder))


def _has_images(folder: Path) -> bool:
    return any(map(_is_image, files_below(folder, wanted=_visible)))


def _visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _LEFT_BY_SYSTEMS


def _is_image(path: Path) -> bool:
    """By its suffix; a link that leads nowhere counts, so that it is told."""
    return path.suffix.lower() in SUFFIXES and (path.is_file() or path.is_symlink())


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot read this folder: {error.strerror}") from None


def _not_official(role: str, folder: Path) -> str:
    return (
        f"split from the images of {folder.name}, as the training images are not there; not "
        f"comparable with results on the official {role} images"
    )


def _names(folders: Iterable[Path]) -> str:
    return _listed([folder.name for folder in folders])


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(told, names[:_NAMED])) + more


def told(name: object) -> str:
    """A name in one line that any terminal can print."""
    return " ".join(str(name).encode("utf-8", "backslashreplace").decode().split())
