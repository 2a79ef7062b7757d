"""File of suspensions: what an operator suspended stays so over a restart.

Kind: shell.
Owns: ``suspended.json`` beside the DEFEDB; replaced as a whole, on disk before the answer.
"""

import os
from collections.abc import Iterable

import msgspec

from libsmx.errors import StoreError
from libsmx.wire_control import Suspension

NAME = "suspended.json"
MAX_BYTES = 4_000_000


def read(directory: str) -> list[Suspension]:
    """Return the suspensions in the file, none where there is no file.

    Raises:
        StoreError: it cannot be read or is not understood.
    """
    path = os.path.join(directory, NAME)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    try:
        return msgspec.json.decode(data, type=list[Suspension])
    except msgspec.DecodeError as error:
        raise StoreError(f"{path}: {error}; mend it, or remove it and suspend again") from error


def write(directory: str, suspensions: Iterable[Suspension]) -> None:
    """Replace the file; it is on disk on return.

    Raises:
        StoreError: the old file is still there.
    """
    path = os.path.join(directory, NAME)
    fresh = f"{path}.new"
    lines = b",\n".join(msgspec.json.encode(one) for one in suspensions)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(fresh, flags, 0o640)
        with open(fd, "wb") as file:
            file.write(b"[" + lines + b"]\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
