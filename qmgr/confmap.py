"""Reading the map of overrides (qmgr_conf).

Kind: shell.

A child reads the file, because a map that was cut short kills the process that maps it. The
file need not exist. What cannot be read changes nothing: limits stay as they were.
Source: SPEC rows X161, X198.
"""

import os
import subprocess
import sys

import trio

from libsmx.log import Log
from qmgr import events
from qmgr.overrides import NONE, Overrides, read_overrides

MAX_BYTES = 64 << 20
"""Largest map that is read."""
_TIMEOUT_S = 60.0


async def load_overrides(path: str, log: Log) -> Overrides | None:
    """Return what the map says, None (and a line in the log) where it cannot be read."""
    try:
        size = os.stat(path).st_size
    except FileNotFoundError:
        return NONE
    except OSError as error:
        log.emit(events.MAP_UNREAD, file=path, error=str(error.strerror))
        return None
    if size > MAX_BYTES:
        log.emit(events.MAP_UNREAD, file=path, error=f"larger than {MAX_BYTES} bytes")
        return None
    done = None
    with trio.move_on_after(_TIMEOUT_S):
        done = await trio.run_process(
            [sys.executable, "-I", "-m", "libsmx.createmap", "-s", path],
            capture_stdout=True,
            capture_stderr=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if done is None or done.returncode:
        text = "reading takes too long" if done is None else _reason(done.returncode, done.stderr)
        log.emit(events.MAP_UNREAD, file=path, error=text)
        return None
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    entries = [(key, value) for key, _, value in (line.partition("\t") for line in lines)]
    overrides, problems = read_overrides(entries)
    for key, text in problems:
        log.emit(events.MAP_ENTRY_BAD, file=path, key=key, error=text)
    log.emit(events.MAP_READ, file=path, entries=len(entries) - len(problems))
    return overrides


def _reason(code: int, text: bytes) -> str:
    if code < 0:
        return f"damaged: a child that read it died of signal {-code}"
    return text.decode("utf-8", "replace").strip()[-300:]
