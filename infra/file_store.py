"""A store in a folder: objects are files, written beside their place and linked into it.

A reader sees a whole object or none. `create` links a fully written temporary file under its name, which fails when
the name is taken; `replace` compares and renames while it holds the folder's lock, so of two processes one loses. What
a method has returned from is on the disk: file and folder are synced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from orchestrator.protocols import ObjectChanged, ObjectExists, ObjectMissing, StoreError, check_key

TEMPORARY = ".tmp-"
LOCK = ".lock"
LOCK_POLL_S, LOCK_TIMEOUT_S = 0.002, 30.0
COPY_BYTES = 2**20
Write = Callable[[BinaryIO], None]
"""Writes an object's bytes into a file."""


class FileStore:
    """Objects of bytes under the folder `root`. Names that begin with a dot are the store's own."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))

    @property
    def where(self) -> str:
        """The store's address, for people and for `make_store`."""
        return str(self.root)

    def probe(self) -> None:
        """Proves that studies can be kept here: writes an object, and sees the second one under its name refused.

        Raises:
            StoreError: the folder cannot be made or written, or does not keep the promises of `create`.
        """
        advice = "choose a local folder that you may write, with --store DIR"
        place = self.root / f".probe-{secrets.token_hex(8)}"
        try:
            _make_folder(self.root)
            _link_new(place, _bytes(b"probe"))
            try:
                with suppress(FileExistsError):
                    _link_new(place, _bytes(b"again"))
                    raise StoreError(f"store {self.root} lets one object be created twice; {advice}")
                with self._locked(self.root):
                    pass
            finally:
                place.unlink()
        except OSError as error:
            raise StoreError(f"store {self.root} cannot be written: {error.strerror or error}; {advice}") from None

    def create(self, key: str, data: bytes) -> None:
        self._create(key, _bytes(data))

    def create_from(self, key: str, file: Path) -> None:
        def copy(into: BinaryIO) -> None:
            with open(file, "rb") as source:
                shutil.copyfileobj(source, into, COPY_BYTES)

        self._create(key, copy)

    def _create(self, key: str, write: Write) -> None:
        place = self._place(key)
        with _naming("write", key, self.root):
            _make_folder(place.parent)
            try:
                _link_new(place, write)
            except FileExistsError:
                raise ObjectExists(f"{key} exists already in store {self.root}") from None

    def read(self, key: str) -> bytes:
        place = self._place(key)
        with _naming("read", key, self.root):
            found = _content(place)
        if found is None:
            raise ObjectMissing(f"{key} is not in store {self.root}")
        return found

    @contextmanager
    def fetch(self, key: str) -> Iterator[Path]:
        place = self._place(key)
        if not place.is_file():
            raise ObjectMissing(f"{key} is not in store {self.root}")
        yield place

    def replace(self, key: str, data: bytes, expected: bytes | None) -> None:
        place = self._place(key)
        with _naming("write", key, self.root):
            _make_folder(place.parent)
            temporary = _written_beside(place, _bytes(data))  # so that the lock is held for a comparison and no longer
            try:
                with self._locked(place.parent):
                    found = _content(place)
                    if found != expected:
                        there = "nothing" if found is None else "something else"
                        raise ObjectChanged(f"{key} in store {self.root} holds {there}: another process writes here")
                    if expected is None:
                        os.link(temporary, place)
                    else:
                        temporary.replace(place)
            except FileExistsError:
                raise ObjectChanged(f"{key} in store {self.root} has just been created elsewhere") from None
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(place.parent)

    def delete(self, key: str) -> None:
        place = self._place(key)
        with _naming("delete", key, self.root):
            try:
                place.unlink()
            except FileNotFoundError:
                return
            _sync_folder(place.parent)

    def list(self, prefix: str) -> Sequence[str]:
        start = self.root / prefix.rpartition("/")[0]
        if prefix.strip("/"):
            self._place(prefix.rstrip("/"))
        keys = []
        for folder, folders, files in os.walk(start):
            folders[:] = [name for name in folders if not name.startswith(".")]
            places = (Path(folder, name) for name in files if not name.startswith("."))
            keys += [place.relative_to(self.root).as_posix() for place in places]
        return sorted(key for key in keys if key.startswith(prefix))

    def studies(self) -> Sequence[str]:
        """The names of the studies in here, sorted."""
        return sorted(manifest.parent.name for manifest in self.root.glob("*/manifest.json"))

    def _place(self, key: str) -> Path:
        """The file of a key.

        Raises:
            StoreError: it is no key, or leads out of the root through a symbolic link.
        """
        check_key(key)
        place = self.root
        for part in key.split("/"):
            place = place / part
            if place.is_symlink():
                raise StoreError(f"{key!r} leads through the symbolic link {place}: a store holds no links")
        return place

    @contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        """Holds a folder's advisory lock, against other processes and other threads alike.

        Raises:
            StoreError: another process has held it for too long, perhaps because it was stopped just then.
        """
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            deadline_s = time.monotonic() + LOCK_TIMEOUT_S
            while not _lock(descriptor):
                if time.monotonic() > deadline_s:
                    raise StoreError(f"{folder} is locked by a process that does not give it back: end that process")
                time.sleep(LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)


@contextmanager
def _naming(verb: str, key: str, root: Path) -> Iterator[None]:
    """Names the object in what the file system complains about."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {verb} {key} in store {root}: {error.strerror or error}") from error


def _content(place: Path) -> bytes | None:
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        return file.read()


def _bytes(data: bytes) -> Write:
    def write(into: BinaryIO) -> None:
        into.write(data)

    return write


def _link_new(place: Path, write: Write) -> None:
    """Makes `place` hold what `write` writes, or raises FileExistsError and leaves it alone."""
    temporary = _written_beside(place, write)
    try:
        os.link(temporary, place)
    finally:
        temporary.unlink()
    _sync_folder(place.parent)


def _written_beside(place: Path, write: Write) -> Path:
    temporary = place.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _lock(descriptor: int) -> bool:
    """Whether the file could be locked now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_folder(folder: Path) -> None:
    """Makes the folder and its parents, each of them durable."""
    if folder.is_dir():
        return
    if folder.exists():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
