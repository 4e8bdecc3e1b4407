"""Folders of a few files: written whole or not at all, and read without leaving them."""

import os
import pathlib
import secrets
import shutil
import stat
from typing import BinaryIO

from jaxrnn.interop.strict_json import FileFormatError


def write_folder(folder: str | os.PathLike[str], files: dict[str, bytes], overwrite: bool) -> None:
    """Writes a folder beside its place, and then renames it: whatever happens, what was there before is still whole.

    A process killed during the renames of an overwrite, which take microseconds, leaves both folders, complete, under hidden
    names beside the place; killed earlier, it leaves the old one in its place, and at most a hidden folder more.

    Raises:
        FileExistsError: the folder holds anything and `overwrite` is False, or it holds other files than these.
    """
    place = pathlib.Path(os.path.realpath(folder))
    found = sorted(os.listdir(place)) if place.exists() else []
    if found and not overwrite:
        raise FileExistsError(f"{place} is not empty: {', '.join(found[:5])}. Pass overwrite=True, or another folder.")
    if strangers := [name for name in found if name not in files]:
        raise FileExistsError(f"{place} holds other files, which would be lost: {', '.join(strangers[:5])}. Move them first.")
    place.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    new, old = (place.with_name(f".{place.name}.{token}.{word}") for word in ("new", "old"))
    new.mkdir()
    try:
        for name, content in files.items():
            with open(new / name, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(new)
        _swap(place, new, old)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    _sync(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def open_inside(folder: str | os.PathLike[str], name: str) -> BinaryIO:
    """Opens a regular file of a folder for reading.

    Raises:
        FileNotFoundError: there is none.
        FileFormatError: it is a link that leaves the folder, or no regular file.
    """
    root = os.path.realpath(folder)
    path = os.path.realpath(os.path.join(root, name))
    if os.path.commonpath([root, path]) != root:
        raise FileFormatError(f"{name} is a link to {path}, outside of its folder {root}. Copy the file there.")
    if not os.path.lexists(path):
        hint = "" if os.path.isdir(root) else " A model on a hub is downloaded first, into a folder of plain files."
        raise FileNotFoundError(f"there is no {name} in the folder {root}.{hint}")
    # A pipe would be waited for without O_NONBLOCK, and a link that has just been put in its place would be followed.
    flags = ("O_NONBLOCK", "O_NOFOLLOW")
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise FileFormatError(f"{name} in {root} is no regular file.")
    return open(path, "rb", opener=lambda path, basic: os.open(path, basic | sum(getattr(os, flag, 0) for flag in flags)))


def _swap(place: pathlib.Path, new: pathlib.Path, old: pathlib.Path) -> None:
    if not place.exists():
        return os.rename(new, place)
    os.rename(place, old)
    try:
        os.rename(new, place)
    except BaseException:
        os.rename(old, place)
        raise


def _sync(folder: pathlib.Path) -> None:
    """Makes the entries of a folder last; Windows has no such call."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
