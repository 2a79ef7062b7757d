"""The canonical log lines: one for each recipient and attempt.

Kind: shell.

Source: SPEC rows X017, X434.
"""

from libsmx.envelope import Envelope
from libsmx.log import Log
from libsmx.wire import RcptResult
from smtpc.events import RCPT_DEFERRED, RCPT_DELIVERED, RCPT_FAILED

_EVENTS = {2: RCPT_DELIVERED, 4: RCPT_DEFERRED, 5: RCPT_FAILED}


def log_results(
    log: Log,
    envelope: Envelope,
    results: list[RcptResult],
    *,
    host: str,
    address: str,
    now_s: float,
    tls: str = "",
    took: str = "",
) -> None:
    """Write one line for each result.

    Args:
        log: where to.
        envelope: the order's.
        results: in the order of its recipients, one for each.
        host: name of the host that was talked to last.
        address: its address.
        now_s: wall clock, seconds.
        tls: what TLS there was.
        took: times of the phases.
    """
    delay = max(0.0, now_s - envelope.received_at)
    for rcpt, result in zip(envelope.rcpts, results, strict=True):
        log.emit(
            _EVENTS[result.code // 100],
            ta=envelope.ta_id,
            rcpt=rcpt.address,
            host=host,
            address=address,
            code=result.code,
            status=result.status,
            delay=delay,
            tls=tls,
            took=took,
            text=result.text,
        )
