"""Start of the queue manager.

Kind: shell.
"""

from typing import NoReturn

from libsmx.process import run
from qmgr.daemon import DAEMON


def main() -> NoReturn:
    """Run qmgr; does not return."""
    run(DAEMON)


if __name__ == "__main__":
    main()
