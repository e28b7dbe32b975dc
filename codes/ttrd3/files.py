"""Files that are whole or not there: write beside the target, flush to disk, then rename."""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ttrd3.errors import UserError

PARTIAL = ".partial"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and renamed to `path`, on any error removed.

    Raises:
        UserError: The folder cannot be written or has no space left; `path` keeps its former content.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}). "
            "Choose a folder that can be written and has space left."
        ) from error
    finally:
        # Also after KeyboardInterrupt: nothing half-written remains. A vanished folder has nothing to remove.
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def require_writable(folder: Path, option: str) -> None:
    """Make `folder` and prove that files can be made in it.

    Raises:
        UserError: Names the option that set the folder, and why it cannot be used.
    """
    probe = folder / f".write-test.{os.getpid()}{PARTIAL}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"{option}: {folder} cannot be written ({error.strerror}). Set {option} to a folder that can be."
        ) from error


def require_free_space(folder: Path, needed: int, purpose: str) -> None:
    """Refuse before the work starts where `folder`'s disk has fewer than `needed` bytes free.

    Raises:
        UserError: Names the folder, the free and the needed space.
    """
    existing = next(parent for parent in [folder.resolve(), *folder.resolve().parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"{folder}: {_size(free)} free, but {purpose} needs about {_size(needed)}. "
            "Free some space or choose a folder on another disk."
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Lock:
    """Exclusive use of what a lock file stands for, as long as this process lives or until `release`.

    The kernel gives it up when its holder ends, however it ends: a killed process leaves nothing to clean up.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file: TextIO | None = None

    def take(self, what: str) -> None:
        """Take the lock.

        Args:
            what: Whose use it is, for the message.

        Raises:
            UserError: Another process holds it; names that process, as far as the file tells. Or it cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror}). Choose another folder.") from error
        try:
            # A record lock, not flock: forked processes that load images do not inherit it and keep it alive.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise UserError(
                f"{what} is in use by {holder}. Wait until it has finished, stop it, or choose another name."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        file.flush()
        self._file = file

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        return self._file is not None

    def release(self) -> None:
        """Give it up; the file stays, empty, because removing it would race with the next holder."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None
