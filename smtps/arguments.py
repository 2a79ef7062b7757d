"""Arguments of MAIL and RCPT: what is said in them, or what is wrong with them.

Kind: core.
Source: RFC 5321 4.1.1.2, 4.1.1.3, 4.1.1.11, RFC 1870, RFC 3461, RFC 6152,
RFC 6531; SPEC rows X359, X379.
"""

import attrs

from libsmx import reply
from libsmx.address import AddressError, Params, parse_path
from libsmx.dsnparam import decode_xtext, read_envid, read_notify, read_orcpt, read_ret
from libsmx.reply import Reply
from smtps.policy import Policy, is_over

_MAX_SIZE_DIGITS = 20
"""RFC 1870 3: a size has at most so many digits."""


@attrs.frozen
class MailArgument:
    """What MAIL says.

    Attributes:
        sender: without brackets, empty for the null reverse-path.
        body8: BODY=8BITMIME was given.
        ret: FULL, HDRS or empty.
        envid: decoded ENVID or empty.
        utf8: SMTPUTF8 was given.
        words: parameters as they came, for content filters.
    """

    sender: str
    body8: bool = False
    ret: str = ""
    envid: str = ""
    utf8: bool = False
    words: tuple[str, ...] = ()


@attrs.frozen
class RcptArgument:
    """What RCPT says.

    Attributes:
        address: without brackets.
        notify: cases in which the sender wants a report, see libsmx/dsnparam.py.
        orcpt: original recipient as ``type;address``, or empty.
        words: parameters as they came, for content filters.
    """

    address: str
    notify: str = ""
    orcpt: str = ""
    words: tuple[str, ...] = ()


def read_mail(arg: bytes, policy: Policy) -> MailArgument | Reply:
    """Return what MAIL says, or its refusal."""
    if arg[:5].upper() != b"FROM:":
        return reply.BAD_MAIL
    try:
        sender, params = parse_path(arg[5:].lstrip(b" "), "MAIL", utf8=policy.utf8)
    except AddressError as error:
        return Reply(error.code, error.status, error.text)
    if not params:
        return MailArgument(sender)
    ret = envid = ""
    for keyword, value in params.items():
        if policy.dsn and keyword in {"RET", "ENVID"}:
            try:
                if keyword == "RET":
                    ret = read_ret(value or "")
                else:
                    envid = read_envid(value or "")
            except ValueError:
                return reply.BAD_PARAM.fill(keyword)
    body8 = (params.get("BODY") or "").upper() == "8BITMIME"
    return _check_params(params, policy) or MailArgument(
        sender, body8, ret, envid, "SMTPUTF8" in params, _words(params)
    )


def _check_params(params: Params, policy: Policy) -> Reply | None:
    """Return the refusal of a parameter that is wrong or not offered."""
    for keyword, value in params.items():
        if keyword == "SIZE":
            if value is None or not value.isdigit() or len(value) > _MAX_SIZE_DIGITS:
                return reply.BAD_PARAM.fill(keyword)
            if is_over(int(value), policy.max_size):
                return reply.TOO_BIG.fill(policy.max_size)
        elif keyword == "BODY" and policy.body8:
            if (value or "").upper() not in {"7BIT", "8BITMIME"}:
                return reply.BAD_PARAM.fill(keyword)
        elif keyword == "SMTPUTF8" and policy.utf8:
            if value is not None:
                return reply.BAD_PARAM.fill(keyword)
        elif keyword == "AUTH" and policy.auth_mechanisms:
            if not _is_auth_param(value or ""):
                return reply.BAD_PARAM.fill(keyword)
        elif keyword not in {"RET", "ENVID"} or not policy.dsn:
            return reply.UNKNOWN_PARAM.fill(keyword)
    return None


def _is_auth_param(value: str) -> bool:
    """Tell whether AUTH= is well formed (RFC 4954 5): ``<>`` or a mailbox as xtext.

    It names who first sent the message. smx believes nobody in that, as the RFC allows.
    """
    try:
        return value == "<>" or bool(decode_xtext(value))
    except ValueError:
        return False


def _words(params: Params) -> tuple[str, ...]:
    """Return parameters as a client writes them."""
    return tuple(key if value is None else f"{key}={value}" for key, value in params.items())


def read_rcpt(arg: bytes, policy: Policy, *, utf8: bool = False) -> RcptArgument | Reply:
    """Return what RCPT says, or its refusal; utf8: MAIL had SMTPUTF8."""
    if arg[:3].upper() != b"TO:":
        return reply.BAD_RCPT
    try:
        address, params = parse_path(arg[3:].lstrip(b" "), "RCPT", utf8=utf8)
    except AddressError as error:
        return Reply(error.code, error.status, error.text)
    if not params:
        return RcptArgument(address)
    notify = orcpt = ""
    for keyword, value in params.items():
        try:
            if not policy.dsn:
                return reply.UNKNOWN_PARAM.fill(keyword)
            if keyword == "NOTIFY":
                notify = read_notify(value or "")
            elif keyword == "ORCPT":
                orcpt = read_orcpt(value or "")
            else:
                return reply.UNKNOWN_PARAM.fill(keyword)
        except ValueError:
            return reply.BAD_PARAM.fill(keyword)
    return RcptArgument(address, notify, orcpt, _words(params))
