"""Start of the SMTP server.

Kind: shell.
"""

from typing import NoReturn

from libsmx.process import run
from smtps.daemon import DAEMON


def main() -> NoReturn:
    """Run smtps; does not return."""
    run(DAEMON)


if __name__ == "__main__":
    main()
