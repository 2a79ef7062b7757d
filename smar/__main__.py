"""Entry point of the address resolver.

Kind: shell.
"""

from libsmx.process import run
from smar.daemon import DAEMON


def main() -> None:
    """Run the address resolver."""
    run(DAEMON)


if __name__ == "__main__":
    main()
