"""Reading smx.conf.

Kind: shell.

Reads the file and leaves everything else to confload. Nothing is read without -f (SPEC row X070).
Source: SPEC rows X070, X105.
"""

from collections.abc import Sequence

from libsmx.conffile import MAX_FILE
from libsmx.confload import (
    Loaded,
    Override,
    Service,
    WholeFile,
    resolve_component,
    resolve_file,
)
from libsmx.errors import ConfigError
from libsmx.opttab import GlobalConf

__all__ = [
    "DEFAULT_FILE",
    "Loaded",
    "Override",
    "Service",
    "WholeFile",
    "load",
    "load_file",
    "load_services",
    "read_config",
]

DEFAULT_FILE = "/etc/smx/smx.conf"
"""What the operator's tools read; daemons read what -f names and nothing else."""


def read_config(path: str) -> bytes:
    """Return the content of a configuration file, a little more than the limit at most.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([f"{path}: cannot be read: {why}"]) from error


def load(
    path: str | None,
    text: bytes | None,
    component: str,
    name: str | None = None,
    overrides: Sequence[Override] = (),
    queue_dir: str = "",
) -> Loaded:
    """Return the options of one component (D59: only its section and the globals count).

    Args:
        path: file given by -f, None for the built-in defaults.
        text: its content; None to read it from path.
        component: qmgr, smtps, smtpc or smar.
        name: section name given by -N.
        overrides: settings of the command line, see cmdline.
        queue_dir: "" where the program runs in the main queue directory: names stay short.

    Raises:
        ConfigError: with everything that is wrong; EX_CONFIG.
        UsageError: name chooses no section; EX_USAGE.
    """
    if text is None:
        text = read_config(path) if path else b""
    return resolve_component(text, path or "", component, name, overrides, queue_dir)


def load_file(path: str, text: bytes | None = None, queue_dir: str = "") -> WholeFile:
    """Validate a whole file and return its sections.

    Raises:
        ConfigError: with everything that is wrong.
    """
    data = read_config(path) if text is None else text
    return resolve_file(data, path, queue_dir)


def load_services(
    path: str,
    text: bytes | None = None,
    queue_dir: str = "",
    warnings: list[str] | None = None,
) -> tuple[GlobalConf, list[Service]]:
    """Validate a whole file and return the global options and mcp's, in the order of the file.

    Args:
        path: the file.
        text: its content; None to read it.
        queue_dir: see load.
        warnings: gets the warnings.

    Raises:
        ConfigError: with everything that is wrong.
    """
    whole = load_file(path, text, queue_dir)
    if warnings is not None:
        warnings += whole.warnings
    services = [Service(one.keyword, one.name, one.service) for one in whole.sections]
    return whole.globals, services
