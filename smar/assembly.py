"""The resolver's parts, put together as the configuration says.

Kind: shell.

The daemon and the offline mode of smxtest use the same parts, so that what was tried is what
will happen.
Source: SPEC rows X208, X221, X250, X251.
"""

import os

import attrs
import trio

from libsmx.errors import EX_CONFIG, ConfigError, StartError
from libsmx.opttab import SmarConf
from libsmx.process import Context
from smar.access import AccessMap
from smar.aliases import Aliases
from smar.aliases import Rules as AliasRules
from smar.connect import Connect
from smar.dnsbl import Blacklist, Blacklists
from smar.events import MAILERTABLE_READ, NO_LOCAL_USERS, RULE_ODD
from smar.flights import Flights
from smar.mailertable import Mailertable, MapMailertable, read_mailertable
from smar.mapbook import MapBook
from smar.nameservice import start_flights, this_site
from smar.route import Router
from smar.tryout import Tryout
from smar.users import LocalUsers
from smar.verdict import Checks

MAX_TABLE = 64 << 20
"""Largest mailertable read, bytes."""
MAX_ODD = 100
"""Most entries that cannot be obeyed told in the life of the process; the rest is silent."""


@attrs.frozen
class Parts:
    """What answers questions.

    Attributes:
        book: all maps.
        flights: the DNS, and maps that answer later.
        checks: judges addresses.
        connect: judges clients and certificates.
        router: finds routes.
        tryout: tells what would be decided.
    """

    book: MapBook
    flights: Flights
    checks: Checks
    connect: Connect
    router: Router
    tryout: Tryout


def load_mailertable(path: str) -> Mailertable:
    """Read the mailertable; it must exist, though it may be empty (SPEC row X250).

    Raises:
        StartError: it cannot be read, or lines of it are wrong; EX_CONFIG.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_TABLE + 1)
    except OSError as error:
        text = f"{path}: {error.strerror}; smar needs this mailertable, even if it is empty"
        raise StartError(text, EX_CONFIG) from error
    if len(data) > MAX_TABLE:
        raise StartError(f"{path}: longer than {MAX_TABLE} bytes, which is the limit", EX_CONFIG)
    try:
        return read_mailertable(data.decode("utf-8", "backslashreplace"), path)
    except ConfigError as error:
        raise StartError(str(error), EX_CONFIG) from error


@attrs.frozen
class Tables:
    """What is read from files at start.

    Attributes:
        mailertable: routes.
        book: all maps.
        access: the access map.
        aliases: whom addresses stand for.
        users: who exists in local domains.
    """

    mailertable: Mailertable
    book: MapBook
    access: AccessMap
    aliases: Aliases
    users: LocalUsers


def open_tables(ctx: Context) -> Tables:
    """Read all files.

    Raises:
        StartError: one is missing or wrong.
    """
    conf: SmarConf = ctx.conf
    book = MapBook(ctx.log)
    book.declare(conf.map)
    odd = OddRules(ctx)
    if conf.mailertable.name:
        mailertable: Mailertable = MapMailertable(book[conf.mailertable.name], odd.tell)
    else:
        mailertable = load_mailertable(conf.mailertable.file)
        ctx.log.emit(MAILERTABLE_READ, file=conf.mailertable.file, entries=len(mailertable))
    if conf.access_map.name:
        source = book[conf.access_map.name]
    else:
        source = book.open_file("access", "hash", conf.access_map.file, optional=True)
    access = AccessMap(
        source=source,
        hostname=ctx.globals.hostname.lower(),
        delimiter=conf.address_delimiter,
        on_odd=odd.tell,
    )
    aliases, users = _open_users(ctx, book, mailertable, odd)
    return Tables(mailertable, book, access, aliases, users)


def _open_users(
    ctx: Context, book: MapBook, mailertable: Mailertable, odd: "OddRules"
) -> tuple[Aliases, LocalUsers]:
    """Open the maps of aliases and local users."""
    conf: SmarConf = ctx.conf
    if conf.aliases.name:
        source = book[conf.aliases.name]
    else:
        source = book.open_file("aliases", "hash", conf.aliases.file, optional=True)
    rules = AliasRules(
        flags=conf.aliases.flags,
        hostname=ctx.globals.hostname.lower(),
        delimiter=conf.address_delimiter,
        max_depth=conf.aliases.max_depth,
        max_members=conf.aliases.max_members,
    )
    aliases = Aliases(source, rules, mailertable.is_local, odd.tell)
    users = book[conf.local_user_map.name] if conf.local_user_map.name else None
    missing = not conf.aliases.name and not os.path.exists(conf.aliases.file)
    if missing and users is None and mailertable.has_local:
        ctx.log.emit(NO_LOCAL_USERS, file=conf.aliases.file)
    implicit = "implicitly_match_detail" in conf.local_user_map.flags
    return aliases, LocalUsers(aliases, users, rules, implicit_detail=implicit)


def assemble(ctx: Context, nursery: trio.Nursery, tables: Tables) -> Parts:
    """Make all parts; their tasks run in the nursery."""
    conf: SmarConf = ctx.conf
    hostname = ctx.globals.hostname.lower()
    lists = Blacklists(Blacklist(one.domain.lower(), one.tag.lower()) for one in conf.dnsbl)
    checks = Checks(
        tables.mailertable, hostname, tables.access, tables.users, tables.aliases.members
    )
    connect = Connect(tables.access, lists)
    router = Router(tables.mailertable, this_site(ctx), tables.aliases)
    return Parts(
        book=tables.book,
        flights=start_flights(nursery, ctx, tables.book.ask),
        checks=checks,
        connect=connect,
        router=router,
        tryout=Tryout(
            checks,
            connect,
            router,
            tables.book.find,
            conf.address_delimiter,
            tables.mailertable,
            hostname,
        ),
    )


class OddRules:
    """Tells the log once of each entry that cannot be obeyed.

    Args:
        ctx: has the log.
    """

    def __init__(self, ctx: Context) -> None:
        self._log = ctx.log
        self._told: set[tuple[str, str]] = set()

    def tell(self, key: str, value: str, reason: str) -> None:
        """Log an entry."""
        if (key, value) in self._told or len(self._told) >= MAX_ODD:
            return
        self._told.add((key, value))
        self._log.emit(RULE_ODD, key=key, value=value[:200], reason=reason)
