"""What the only root process loads."""

import subprocess
import sys

CODE = """
import sys, mcp.__main__
print(mcp.__file__)
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


def test_mcp_is_ours_and_loads_no_database_tls_dns_or_codec():
    done = subprocess.run(
        [sys.executable, "-I", "-c", CODE], check=True, capture_output=True, text=True
    )
    where, loaded = done.stdout.splitlines()
    assert where.endswith("/mcp/__init__.py")
    assert "libsmx" in loaded.split()
    assert not {"lmdb", "OpenSSL", "dns", "msgspec", "cryptography"} & set(loaded.split())
