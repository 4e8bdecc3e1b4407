"""Folders of a few files: written whole or not at all, and read without leaving them."""

import os
import pathlib
import secrets
import shutil
import stat
import warnings
from collections.abc import Iterable
from typing import BinaryIO

from jaxrnn.interop.strict_json import FileFormatError


def write_folder(folder: str | os.PathLike[str], files: dict[str, bytes], overwrite: bool) -> None:
    """Writes files aside, and then renames: the folder where it is new or replaced,
    the files where it is there and empty.

    A process killed between the two renames of an overwrite, which take microseconds, leaves both
    folders, complete, under hidden names beside the place; killed earlier, it leaves the old one in
    its place, and at most a hidden folder more.

    Raises:
        FileExistsError: the folder holds anything and `overwrite` is False, it holds other files
            than these, or it cannot be replaced, being the working directory or a mount point.
    """
    place = pathlib.Path(os.path.realpath(folder))
    found = sorted(os.listdir(place)) if place.exists() else []
    _check_place(place, found, files, overwrite)
    place.parent.mkdir(parents=True, exist_ok=True)
    # an empty folder stays, with what it is to others
    beside = place / place.name if place.exists() and not found else place
    token = secrets.token_hex(4)
    new, old = (beside.with_name(f".{place.name}.{token}.{word}") for word in ("new", "old"))
    new.mkdir()
    try:
        if place.exists():
            shutil.copymode(place, new)
        _write(new, files)
        if beside == place:
            _swap(place, new, old, files)
        else:
            _move(new, place, files)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    _sync(beside.parent)
    if old.exists():
        _remove(old, files)


def _check_place(
    place: pathlib.Path, found: list[str], files: dict[str, bytes], overwrite: bool
) -> None:
    """Raises FileExistsError where what the folder holds may not, or cannot, be replaced."""
    if found and not overwrite:
        raise FileExistsError(
            f"{place} is not empty: {', '.join(found[:5])}. Pass overwrite=True, or another folder."
        )
    _check_no_strangers(place, found, files)
    if found and (os.path.ismount(place) or os.path.samefile(place, os.curdir)):
        raise FileExistsError(
            f"{place} is the working directory or a mount point and cannot be replaced. "
            "Pass another folder."
        )


def open_inside(folder: str | os.PathLike[str], name: str) -> BinaryIO:
    """Opens a regular file of a folder for reading.

    Raises:
        FileNotFoundError: there is none.
        FileFormatError: it is a link that leaves the folder, or no regular file.
    """
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, name))
    if os.path.commonpath([root, path]) != root:
        raise FileFormatError(
            f"{name} is a link to {path}, outside of its folder {root}. Copy the file there."
        )
    if not os.path.lexists(path):
        hint = (
            ""
            if os.path.isdir(root)
            else " A model on a hub is downloaded first, into a folder of plain files."
        )
        raise FileNotFoundError(f"there is no {name} in the folder {root}.{hint}")
    # A pipe would be waited for without O_NONBLOCK, and a link that has just been put in its place
    # would be followed.
    flags = ("O_NONBLOCK", "O_NOFOLLOW")
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise FileFormatError(f"{name} in {root} is no regular file.")
    return open(
        path,
        "rb",
        opener=lambda path, basic: os.open(
            path, basic | sum(getattr(os, flag, 0) for flag in flags)
        ),
    )


def _check_no_strangers(place: pathlib.Path, found: Iterable[str], files: Iterable[str]) -> None:
    if strangers := sorted(set(found).difference(files)):
        raise FileExistsError(
            f"{place} holds other files, which would be lost: {', '.join(strangers[:5])}. "
            "Move them first."
        )


def _write(folder: pathlib.Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        with open(folder / name, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _sync(folder)


def _swap(place: pathlib.Path, new: pathlib.Path, old: pathlib.Path, files: Iterable[str]) -> None:
    if not place.exists():
        return os.rename(new, place)
    os.rename(place, old)
    try:
        _check_no_strangers(place, os.listdir(old), files)  # such as have come since the first look
        os.rename(new, place)
    except BaseException:
        os.rename(old, place)
        raise


def _move(new: pathlib.Path, place: pathlib.Path, files: Iterable[str]) -> None:
    """Moves files into a folder that holds nothing but `new`;
    what has come there since is not replaced.
    """
    _check_no_strangers(place, os.listdir(place), [new.name])
    moved = []
    try:
        for name in files:
            os.rename(new / name, place / name)
            moved.append(place / name)
    except BaseException:
        for path in moved:
            path.unlink()
        raise
    new.rmdir()


def _remove(old: pathlib.Path, files: Iterable[str]) -> None:
    """Removes the old model, and nothing that has come to it."""
    try:
        for name in files:
            (old / name).unlink(missing_ok=True)
        old.rmdir()
    except OSError as e:
        warnings.warn(
            f"the model is saved, and the old one was not removed whole: see {old} ({e}).",
            stacklevel=4,
        )


def _sync(folder: pathlib.Path) -> None:
    """Makes the entries of a folder last; Windows has no such call."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
