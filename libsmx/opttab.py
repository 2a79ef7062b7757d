"""The options table: every section that smx.conf may have, as typed classes.

Kind: table.

The rows are split by subject: ``opt_shared`` (global, logging, mcp's), ``opt_qmgr``,
``opt_smtps``, ``opt_smtpc``, ``opt_smar``. All options that mcp reads stand in the field
``service`` of a component's class and are written directly in its section.
Source: SPEC rows X104, X105, X107-X197.
"""

from libsmx.opt_qmgr import QmgrConf
from libsmx.opt_shared import GlobalConf, ListenSocket, LogConf, ServiceConf
from libsmx.opt_smar import SmarConf
from libsmx.opt_smtpc import SmtpcConf
from libsmx.opt_smtps import SmtpsConf

__all__ = [
    "COMPONENTS",
    "ComponentConf",
    "GlobalConf",
    "ListenSocket",
    "LogConf",
    "QmgrConf",
    "ServiceConf",
    "SmarConf",
    "SmtpcConf",
    "SmtpsConf",
]

ComponentConf = QmgrConf | SmtpsConf | SmtpcConf | SmarConf

COMPONENTS: dict[str, type[QmgrConf] | type[SmtpsConf] | type[SmtpcConf] | type[SmarConf]] = {
    "qmgr": QmgrConf,
    "smar": SmarConf,
    "smtps": SmtpsConf,
    "smtpc": SmtpcConf,
}
"""Section keyword -> class; every other section is a service with ServiceConf alone."""
