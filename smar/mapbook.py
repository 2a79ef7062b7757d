"""All maps of the resolver, as the configuration declares them.

Kind: shell.

Owns: the maps that the options name. ``watch`` reads changed files again; ``ask`` answers the
questions of kind MAP for the maps that answer later.
Source: SPEC rows X208 to X221, X251.
"""

from collections.abc import Iterable

import trio

from libsmx.log import Log
from libsmx.opt_smar_maps import MapConf
from smar.mapfiles import POLL_S, FileMap
from smar.mapremote import PasswdAsker, SocketAsker
from smar.maps import Map, RemoteMap, SequenceMap, map_and_key
from smar.records import Answer, Outcome, Question

Asker = PasswdAsker | SocketAsker


class MapBook:
    """The maps by name.

    Args:
        log: told of what is read.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._maps: dict[str, Map] = {}
        self._files: list[FileMap] = []
        self._askers: dict[str, Asker] = {}
        self._look_now = trio.Event()

    def declare(self, declared: Iterable[MapConf]) -> None:
        """Open the declared maps.

        Raises:
            StartError: a file is missing or cannot be used.
        """
        for conf in declared:
            self._maps[conf.name] = self._make(conf)

    def _make(self, conf: MapConf) -> Map:
        match conf.type:
            case "sequence":
                return SequenceMap(conf.name, tuple(self._maps[name] for name in conf.maps))
            case "socket":
                self._askers[conf.name] = SocketAsker(conf)
                return RemoteMap(conf.name)
            case "passwd":
                self._askers[conf.name] = PasswdAsker()
                return RemoteMap(conf.name)
            case kind:
                return self.open_file(conf.name, kind, conf.file, optional=False)

    def open_file(self, name: str, kind: str, path: str, *, optional: bool) -> FileMap:
        """Return a map in a file that will be read again when it changes.

        Args:
            name: for logs and traces.
            kind: hash, text, regex or cidr.
            path: the file.
            optional: it need not exist.

        Raises:
            StartError: it is missing and must not be, or cannot be used.
        """
        found = FileMap(name, kind, path, self._log, optional=optional)
        found.open()
        self._files.append(found)
        self._maps.setdefault(name, found)
        return found

    def __getitem__(self, name: str) -> Map:
        """Return a declared map; the configuration has no other names."""
        return self._maps[name]

    def find(self, name: str) -> Map | None:
        """Return a declared map, or one that was opened under this name; else None."""
        return self._maps.get(name)

    async def ask(self, question: Question) -> Answer:
        """Answer a question of kind MAP; never raises."""
        name, key = map_and_key(question)
        asker = self._askers.get(name)
        if asker is None:
            return Answer(outcome=Outcome.FAILED, detail=f"no map {name} answers later")
        return await asker.ask(key)

    def look_now(self) -> None:
        """Look at the files at once (SIGHUP)."""
        self._look_now.set()

    async def watch(self) -> None:
        """Read changed files again, for ever."""
        while True:
            with trio.move_on_after(POLL_S):
                await self._look_now.wait()
            self._look_now = trio.Event()
            await self.refresh()

    async def refresh(self) -> None:
        """Look at all files once."""
        found = await trio.to_thread.run_sync(lambda: [one.look() for one in self._files])
        for one, change in zip(self._files, found, strict=True):
            if change is not None:
                one.apply(change)
