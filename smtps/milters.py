"""All content filters of one session, one after the other.

Kind: shell.

A filter that fails is not used any more in the session; its option on_failure decides what that
means for the mail. What filters do with content stands in smtps/inspection.py.
Source: SPEC rows X384-X393; decision D45; libmilter/docs.
"""

import trio

from libsmx.cdb import CdbFile, CdbWriter
from libsmx.log import Log
from libsmx.reply import FILTER_DOWN, Reply
from smtps import events
from smtps.effects import Consult, Consulted, Inspect, Inspected, Said, Step
from smtps.inspection import Inspection
from smtps.milterio import FilterConf, FilterLink
from smtps.milterwire import ABORT, QUIT, MilterError

_FAILED: dict[str, Reply] = {
    "tempfail": Reply(451, "4.7.1", "A content filter does not work, try again later"),
    "reject": Reply(550, "5.7.1", "A content filter does not work"),
}
_BROKEN = (OSError, MilterError, trio.TooSlowError, trio.ClosedResourceError,
           trio.BrokenResourceError)  # fmt: skip


class Milters:
    """The filters of one session.

    Args:
        confs: in order.
        cdb: makes new content files.
        log: gets what fails.
        session_id: for the log.
        hostname: of this host, for replies.
        port: of the client.
    """

    def __init__(
        self,
        confs: tuple[FilterConf, ...],
        cdb: CdbWriter,
        log: Log,
        session_id: str,
        hostname: str,
        port: int,
    ) -> None:
        self._confs = confs
        self._cdb = cdb
        self._log = log
        self._id = session_id
        self._hostname = hostname
        self._port = port
        self._links: list[FilterLink] = []
        self._failed: list[FilterConf] = []

    async def consult(self, consult: Consult) -> Consulted:
        """Ask every filter about every step."""
        said: list[Said] = []
        for step in consult.steps:
            said.append(await self._step(step))
            if step.stage == "mail" and said[-1].refusal is not None:
                break
        return Consulted(tuple(said))

    async def _step(self, step: Step) -> Said:
        if step.stage == "connect":
            await self._open()
        refusal = self._failure(step.stage)
        discard = False
        for link in list(self._links):
            if refusal is not None:
                break
            try:
                await link.tell(link.machine.ask(step, self._port))
            except _BROKEN as error:
                self._fail(link, error)
                refusal = self._failure(step.stage)
                continue
            discard = discard or link.machine.said.discard
            refusal = link.machine.said.refusal
            link.machine.said = Said()
        return Said(refusal, discard)

    async def _open(self) -> None:
        """Connect to all filters, or anew for another client."""
        self.close()
        self._failed = []
        self._links = [FilterLink(conf) for conf in self._confs]
        for link in list(self._links):
            try:
                await link.open()
            except _BROKEN as error:
                self._fail(link, error)

    def _fail(self, link: FilterLink, error: BaseException) -> None:
        reason = str(error) or type(error).__name__
        self._log.emit(events.FILTER_FAILED, ss_sess=self._id, filter=link.conf.name, reason=reason)
        link.close()
        self._links.remove(link)
        self._failed.append(link.conf)

    def _failure(self, stage: str) -> Reply | None:
        """Return what failed filters mean for a stage."""
        for conf in self._failed:
            if conf.on_failure == "abort":
                return FILTER_DOWN.fill(self._hostname)
            if conf.on_failure in _FAILED and stage not in {"connect", "helo"}:
                return _FAILED[conf.on_failure]
        return None

    async def inspect(self, inspect: Inspect, file: CdbFile) -> tuple[Inspected, CdbFile]:
        """Show a message to all filters.

        Returns:
            What they say, and the file of its content: the given one, or a new one that takes
            its place; the old one is gone then.

        Raises:
            StoreError: the disk is full or broken; the given file is still there.
        """
        refusal = self._failure("end")
        if refusal is not None:
            return Inspected(Said(refusal)), file
        with Inspection(self._cdb, file, inspect) as inspection:
            said = await self._inspect_all(inspection)
            for link in self._links:
                link.machine.begin()
            if said != Said():
                return inspection.result(said), file
            held = [conf.name for conf in self._failed if conf.on_failure == "quarantine"]
            if held and not inspection.hold:
                inspection.hold = f"content filter {held[0]} does not work"
            return await inspection.finish()

    async def _inspect_all(self, inspection: Inspection) -> Said:
        for link in list(self._links):
            if link.machine.idle:
                continue
            try:
                await inspection.show(link)
            except _BROKEN as error:
                self._fail(link, error)
                refusal = self._failure("end")
                if refusal is not None:
                    return Said(refusal)
                continue
            if link.machine.said != Said():
                return link.machine.said
            odd = inspection.apply(link.machine)
            if odd:
                self._log.emit(
                    events.FILTER_ODD, ss_sess=self._id, filter=link.conf.name, changes=odd
                )
        return Said()

    def forget(self) -> None:
        """Have all filters forget the message."""
        for link in list(self._links):
            link.say(ABORT)
            link.machine.begin()

    def close(self) -> None:
        """End all connections."""
        for link in self._links:
            link.say(QUIT)
            link.close()
        self._links = []
