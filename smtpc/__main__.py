"""Entry point of the SMTP client.

Kind: shell.
"""

from libsmx.process import run
from smtpc.daemon import DAEMON


def main() -> None:
    """Run the SMTP client."""
    run(DAEMON)


if __name__ == "__main__":
    main()
