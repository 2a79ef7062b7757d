"""A real authoritative name server: Knot DNS with the zones of a test."""

import contextlib
import socket
import subprocess
from pathlib import Path

from tests.conftest import need
from tests.system import reachable_dir

CONF = """\
server:
    rundir: "{dir}"
    listen: 127.0.0.1@{port}
log:
  - target: stderr
    any: info
database:
    storage: "{dir}"
template:
  - id: default
    storage: "{dir}"
    zonefile-sync: -1
    journal-content: none
zone:
"""


def free_port():
    """A port that is free for TCP and UDP at this moment."""
    for _ in range(20):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


@contextlib.contextmanager
def running_knot(zones):
    """Serve zones (name -> text, None for one whose file is missing); yield the port."""
    program = need("knotd", "knot")
    place = Path(reachable_dir("smx-knot-"))
    port = free_port()
    conf = CONF.format(dir=place, port=port)
    for name, text in zones.items():
        conf += f"  - domain: {name}.\n    file: {name}.zone\n"
        if text is not None:
            (place / f"{name}.zone").write_text(text)
    (place / "knot.conf").write_text(conf)
    process = subprocess.Popen(
        [program, "-c", str(place / "knot.conf")],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    seen = []
    try:
        for line in process.stderr:
            seen.append(line)
            if "server started" in line:
                break
        else:
            raise AssertionError("knotd did not start:\n" + "".join(seen))
        yield port
    finally:
        process.terminate()
        process.communicate()
        subprocess.run(["rm", "-rf", place], check=True)
