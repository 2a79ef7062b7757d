"""Entry of the program mcp.

Kind: shell.
"""

from mcp.daemon import main

if __name__ == "__main__":
    raise SystemExit(main())
