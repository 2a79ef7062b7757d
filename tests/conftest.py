"""Fixtures and hooks for all tests."""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import settings

from tests.system import ROOT, System, reachable_dir

# Nothing is written into the checkout, a slow machine is no failure, and the same tree gives the
# same verdict each time; "search" looks in new places: SMX_HYPOTHESIS=search pytest ...
settings.register_profile("smx", database=None, deadline=None, derandomize=True)
settings.register_profile("search", database=None, deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("SMX_HYPOTHESIS", "smx"))


@pytest.fixture
def autojump_clock():
    """A clock that jumps over every wait; give it to the test's coroutine by asking for it."""
    return trio.testing.MockClock(autojump_threshold=0)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run ``async def`` tests with trio, no plugin needed."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    kwargs = {name: pyfuncitem.funcargs[name] for name in names}
    clock = kwargs.get("autojump_clock")

    async def main():
        await pyfuncitem.obj(**kwargs)

    trio.run(main, clock=clock)
    return True


def find_program(program):
    """Path of a foreign program, or nothing."""
    for place in (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin", "/usr/local/sbin"):
        path = os.path.join(place, program)
        if os.access(path, os.X_OK):
            return path
    return ""


def need(program, package):
    """Skip the test, naming the Debian package, unless a foreign program is there."""
    return find_program(program) or pytest.skip(
        f"{program} is not installed (Debian package {package})"
    )


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Where everything is installed (CI), a skipped test is a failed one."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("SMX_SKIP_IS_FAILURE") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although nothing may be skipped here: {report.longrepr}"


BIN = Path(sys.executable).parent


def usable_by_nobody():
    """Tell whether the daemons' unprivileged user can run the programs where they are."""
    done = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", BIN / "smar", "-V"],
        capture_output=True, check=False, cwd="/",
    )  # fmt: skip
    return done.returncode == 0


@pytest.fixture(scope="session")
def programs():
    """A directory of programs that the daemons' user can run."""
    if os.getuid() != 0 or usable_by_nobody():
        yield BIN
        return
    place = reachable_dir("smx-programs-")
    try:
        python = "/usr/bin/python3"
        for top in ("libsmx", "mcp", "qmgr", "smtps", "smtpc", "smar", "misc"):
            shutil.copytree(ROOT / top, place / top, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(
            ["sh", place / "misc/setup-venv.sh", place / "venv", "runtime", python], check=True
        )
        yield place / "venv/bin"
    finally:
        shutil.rmtree(place)


@pytest.fixture
def smx(programs):
    """Make systems: smx(nexthop=..., ...); all are stopped at the end."""
    systems = []

    def make(**kwargs):
        systems.append(System(programs, **kwargs))
        return systems[-1]

    yield make
    for system in systems:
        system.stop()
        if "SMX_KEEP" not in os.environ:
            shutil.rmtree(system.dir, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """SM_NO_SLOW_TEST=1 leaves out what takes long (row X067)."""
    if os.environ.get("SM_NO_SLOW_TEST", "0") not in {"", "0"}:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="SM_NO_SLOW_TEST is set"))
