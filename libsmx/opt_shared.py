"""Options that belong to no single component: global ones, logging, and mcp's.

Kind: table.

Source: SPEC rows X107-X119, X125-X148; D02, D11.
"""

import attrs

from libsmx.kinds import (
    SIZE_UNITS,
    TIME_UNITS,
    Boolean,
    Choice,
    Count,
    Flags,
    ListOf,
    Octal,
    Path,
    Quantity,
    String,
    Words,
)
from libsmx.netkinds import IpAddress
from libsmx.options import option, section

SECONDS = Quantity("duration", TIME_UNITS, "s")
WORD = String("name", r"[A-Za-z0-9_.@-]{1,64}", "letters, digits, _ . @ -")
ACCOUNT = String("account", r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}|[0-9]{1,10}", "a name or a number")
HOST = String(
    "host name",
    r"(?=.{1,255}$)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9][A-Za-z0-9-]{0,62})*",
    "labels of letters, digits and hyphens, with dots between them",
)

FACILITIES = (
    *("daemon", "mail", "auth", "authpriv", "user", "syslog", "lpr", "news", "uucp", "cron"),
    *(f"local{n}" for n in range(8)),
)

SYSLOG_OPTIONS = Flags(
    {
        "pid": "put the process id into each record",
        "ndelay": "connect to syslog at the start, not at the first record",
        "cons": "write to the console when syslog is not there",
        "nowait": "accepted for compatibility, has no effect",
        "odelay": "connect at the first record, which is the default",
        "perror": "write each record to the standard error as well",
    }
)

START_ACTIONS = Choice("wait", "pass", "accept", "nostartaccept")


LOG_FORMATS = Choice("text", "json", "postfix")


@attrs.frozen
class GlobalConf:
    """Options outside of any section, used by several components."""

    hostname: str = option(
        "hostname",
        HOST,
        "",
        rows="X107",
        doc="Name of this host in the SMTP greeting, in EHLO and in Received: fields. "
        "Empty: the fully qualified name that the operating system knows.",
    )
    cdb_base_directory: str = option(
        "CDB_base_directory",
        Path(),
        "",
        rows="X108 X109",
        doc="Base of the content database. Either empty, for the queue directory, or a directory "
        "with a slash at its end, because the names 0 to F are simply appended to it.",
    )
    smar_socket: str = option(
        "SMAR_socket",
        Path(),
        "qmsmar/smarsock",
        rows="X110 X113",
        doc="Unix domain socket of the address resolver, for qmgr and smtps.",
    )
    smtpc_socket: str = option(
        "SMTPC_socket",
        Path(),
        "qmsmtpc/smtpcsock",
        rows="X111 X113",
        doc="Unix domain socket of the queue manager for smtpc.",
    )
    smtps_socket: str = option(
        "SMTPS_socket",
        Path(),
        "qmsmtps/smtpssock",
        rows="X112 X113",
        doc="Unix domain socket of the queue manager for smtps.",
    )
    log_format: str = option(
        "log_format",
        LOG_FORMATS,
        "text",
        rows="X119",
        doc="Style of all log lines. text: event and key=value. json: an object a line. postfix: "
        "the words that tools for Postfix's logs know, as pflogsumm --syslog-name=smx; a message "
        "is then also logged when the queue takes it, with the name smx/qmgr.",
    )


@attrs.frozen
class LogConf:
    """Where log lines go."""

    facility: str = option(
        "facility", Choice(*FACILITIES), "mail", rows="X114", doc="Facility of syslog(3)."
    )
    ident: str = option(
        "ident",
        String("identification", r"[ -~]{1,64}", "at most 64 printable characters"),
        "",
        rows="X115 X383",
        doc="Identification of the log lines. Empty: the name of the module.",
    )
    options: frozenset[str] = option(
        "options",
        SYSLOG_OPTIONS,
        ("pid",),
        rows="X116",
        doc="Options of openlog(3) without the leading LOG_.",
    )
    file: str = option(
        "file",
        Path(),
        "",
        rows="X062",
        doc="When set, lines are appended to this file instead of going to syslog; - is the "
        "standard output. The file is opened anew on SIGHUP.",
    )
    journal: bool = option(
        "journal",
        Boolean(),
        "false",
        doc="When true and no file is set, lines go to the journal of systemd, each value as a "
        "field of its own: journalctl SMX_EVENT=rcpt_failed. Without a journal they go to syslog.",
    )


@attrs.frozen
class ListenSocket:
    """One socket that mcp opens for a service."""

    type: str = option(
        "type",
        Choice("inet", "inet6", "unix"),
        "inet",
        rows="X131 X134",
        doc="Address family: IPv4, IPv6 or Unix domain.",
    )
    port: int = option(
        "port",
        Count(),
        "0",
        low="1",
        high="65535",
        rows="X132",
        doc="TCP port; required for inet and inet6.",
    )
    address: str = option(
        "address",
        IpAddress(),
        "",
        rows="X133",
        doc="Local address. Empty: all addresses of the family.",
    )
    path: str = option(
        "path", Path(), "", rows="X135", doc="Name of a unix socket; required for that type."
    )
    umask: int = option(
        "umask", Octal(), "0117", rows="X136", doc="Permissions that a unix socket does not get."
    )
    user: str = option("user", ACCOUNT, "", rows="X137", doc="Owner of a unix socket.")
    group: str = option("group", ACCOUNT, "", rows="X138", doc="Group of a unix socket.")


@attrs.frozen
class LimitsConf:
    """What the kernel lets one process of a service use, see getrlimit(2)."""

    open_files: int = option(
        "open_files",
        Count("descriptors"),
        "0",
        low="0",
        high="1048576",
        rows="X479",
        doc="Open files and connections (RLIMIT_NOFILE); a session needs one or two. 0: as many "
        "as the system lets mcp have, at most 65536.",
    )
    memory: int = option(
        "memory",
        Quantity("size", SIZE_UNITS, "KB"),
        "0",
        low="0",
        high="1024GB",
        rows="X479",
        doc="Memory for data (RLIMIT_DATA); what would exceed it ends the process, which is "
        "started again. 0: no limit. Set it well above what the process needs at its busiest.",
    )
    core_size: int = option(
        "core_size",
        Quantity("size", SIZE_UNITS, "KB"),
        "0",
        low="0",
        high="1024GB",
        doc="Size of a core file (RLIMIT_CORE). 0: none is written; it would hold mail.",
    )


@attrs.frozen
class ServiceConf:
    """The options by which mcp runs a service; allowed in every section."""

    start_action: str = option(
        "start_action",
        START_ACTIONS,
        "",
        rows="X125 X126 X127 X128 X129",
        doc="How the service gets its sockets; required. wait: it needs none. pass: mcp opens "
        "them and passes them to the running process over pass_fd_socket. accept: the process "
        "inherits them at its start, as descriptors 3 and up with their number in LISTEN_FDS and "
        "its process id in LISTEN_PID, as from systemd, and accepts itself. nostartaccept: as "
        "accept, but a process is started only when a client connects, and when it has ended "
        "with 0, the next one when the next client connects. The components of smx use wait and "
        "pass.",
    )
    listen_socket: tuple[ListenSocket, ...] = section(
        "listen_socket",
        ListenSocket,
        repeat=True,
        doc="A socket for the service, required unless start_action is wait; may be repeated.",
    )
    pass_fd_socket: str = option(
        "pass_fd_socket",
        Path(),
        "",
        rows="X139 X429",
        doc="Unix socket on which the process takes its listening sockets; required for "
        "start_action pass, and different for each service. With pass_id each process appends "
        "a dot and its number.",
    )
    user: str = option(
        "user",
        ACCOUNT,
        "",
        rows="X140",
        doc="User under which the service runs, with the supplementary groups of the group "
        "table. Empty: the user of mcp.",
    )
    group: str = option(
        "group",
        ACCOUNT,
        "",
        rows="X141",
        doc="Group under which the service runs. Empty: the user's own.",
    )
    restart_dependencies: tuple[str, ...] = option(
        "restart_dependencies",
        ListOf(WORD, 32),
        (),
        rows="X143 X158",
        doc="Services, by keyword or by name, that are stopped and started after this one was "
        "restarted.",
    )
    path: str = option("path", Path(), "", rows="X144", doc="Program to execute; required.")
    arguments: tuple[str, ...] = option(
        "arguments",
        Words(),
        "",
        rows="X145",
        doc="Argument vector, which begins with the name of the program; required.",
    )
    pass_id: str = option(
        "pass_id",
        String("option", r"--?[A-Za-z0-9][A-Za-z0-9-]{0,30}", "an option as -i"),
        "",
        rows="X078 X146",
        doc="Option that is inserted as first argument, followed by the number of the process, "
        "0 and up.",
    )
    min_processes: int = option(
        "min_processes",
        Count("processes"),
        "1",
        low="0",
        high="256",
        rows="X147",
        doc="Number of processes that are kept running; with nostartaccept, number of processes "
        "that the first client starts.",
    )
    max_processes: int = option(
        "max_processes",
        Count("processes"),
        "1",
        low="1",
        high="256",
        rows="X148",
        doc="Greatest number of processes of the service. With accept and nostartaccept another "
        "one is started when connections wait for a second although all run; such a one is not "
        "started again when it ends with 0. With wait and pass mcp cannot see how busy a service "
        "is, and only min_processes run.",
    )
    resource_limits: LimitsConf = section(  # noqa: RUF009 (a field)
        "resource_limits", LimitsConf, doc="Limits that the kernel sets to each of its processes."
    )


def log_level() -> int:
    """Declare log_level, which every module has (D58)."""
    level: int = option(
        "log_level",
        Count(),
        "9",
        low="0",
        high="99",
        rows="X119",
        doc="Amount of logging: the larger, the more. 9 is right for normal operation, 12 to 14 "
        "for tests.",
    )
    return level


def log_section() -> LogConf:
    """Declare the section log, which every module has."""
    conf: LogConf = section("log", LogConf, doc="Where this module's log lines go.")
    return conf
