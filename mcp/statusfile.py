"""The file with what the services do, beside the pid file.

Kind: shell.

It is replaced as a whole, so a reader never sees half of it, and not synced: it means nothing
once mcp has ended.
"""

import contextlib
import os

SUFFIX = ".status"
"""Appended to the name of the pid file."""


class StatusFile:
    """Writes the status of one mcp; every user may read it.

    Args:
        path: of the file, "" to write none.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, text: str) -> None:
        """Replace the text.

        Raises:
            OSError: it cannot be written.
        """
        if not self.path:
            return
        fresh = self.path + ".new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(fresh, flags, 0o644)
        try:
            os.write(fd, text.encode("utf-8"))
        finally:
            os.close(fd)
        os.rename(fresh, self.path)

    def remove(self) -> None:
        """Remove the file: nothing runs any more."""
        if self.path:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
