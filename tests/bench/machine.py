"""What the numbers rest on: a journalled file system of its own, processor time, memory."""

import contextlib
import os
import subprocess
import threading
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def journalled(size_mb=3000):
    """Yield a directory on a fresh ext4 with a journal, or on /tmp where that cannot be had.

    Users have journals; a root file system without one gives other answers.
    """
    place = Path("/var/tmp/smx-bench")
    place.mkdir(exist_ok=True)
    place.chmod(0o755)
    image, mount = place / "image", place / "fs"
    mount.mkdir(exist_ok=True)
    if os.getuid() != 0 or not attach(image, mount, size_mb):
        yield mount, f"{fs_type(mount)} (the machine's own; compare with care)"
        return
    try:
        mount.chmod(0o755)
        yield mount, "ext4 with journal in a loop image"
    finally:
        subprocess.run(["umount", mount], check=False)
        image.unlink(missing_ok=True)


def attach(image, mount, size_mb):
    """Make and mount the image; tell whether that worked."""
    subprocess.run(["umount", "-q", mount], check=False, capture_output=True)
    image.unlink(missing_ok=True)
    with open(image, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_mb << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, capture_output=True)
        loop = subprocess.run(
            ["losetup", "--find", "--show", "--direct-io=on", image],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        subprocess.run(["mount", loop, mount], check=True, capture_output=True)
        subprocess.run(["losetup", "-d", loop], check=False, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        image.unlink(missing_ok=True)
        return False
    return True


def fs_type(path):
    """Name of the file system that path lies on."""
    done = subprocess.run(
        ["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def tree(pid):
    """Process ids of a process and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{entry}/stat") as file:
                parent = int(file.read().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_s(pids):
    """Processor seconds of processes, with those of their children that ended, by name."""
    used = {}
    for pid in pids:
        with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat") as file:
            head, tail = file.read().rsplit(")", 1)
            words = tail.split()
            name = title(pid) or head.split("(", 1)[1]
            used[name] = used.get(name, 0.0) + sum(map(int, words[11:15])) / TICK
    return used


def title(pid):
    """Program name from the command line."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return os.path.basename(file.read().replace(b"\0", b" ").split(b" ")[0].decode())
    return ""


def machine_cpu_s():
    """Busy processor seconds of the whole machine."""
    with open("/proc/stat") as file:
        words = list(map(int, file.readline().split()[1:]))
    return (sum(words[:3]) + sum(words[5:8])) / TICK


class Memory(threading.Thread):
    """Samples the memory of a process tree (PSS, bytes) and keeps the peak."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid = pid
        self.peak = 0
        self.processes = 0
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(0.5):
            self.sample()

    def sample(self):
        pids = tree(self.pid)
        total = 0
        for pid in pids:
            with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
                total += (
                    sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024
                )
        self.peak = max(self.peak, total)
        self.processes = max(self.processes, len(pids))

    def stop(self):
        self.done.set()
        self.join()
        self.sample()  # short runs have no other
        return self
