"""Log events of the queue manager's stores.

Kind: table.
Source: SPEC row X119.
"""

from libsmx.logtab import event

IBDB_RECOVERED = event(
    "ibdb_recovered", 6, "The IBDB of the last run was read.", "segments", "open", "problems"
)
IBDB_CUT = event(
    "ibdb_cut", 6,
    "The end of an IBDB segment was a write that a crash cut short; nobody was told it succeeded.",
    "segment", "what",
)  # fmt: skip
IBDB_DAMAGED = event(
    "ibdb_damaged", 1,
    "Part of an IBDB segment cannot be read: mail may be missing. The file is kept as *.damaged.",
    "segment", "what",
)  # fmt: skip
IBDB_FAILED = event(
    "ibdb_failed", 1,
    "Writing or syncing an IBDB segment failed: its last commits were refused, a new one begins.",
    "segment", "refused", "error",
)  # fmt: skip
IBDB_NO_SEGMENT = event(
    "ibdb_no_segment", 1,
    "No new IBDB segment can be made; mail is refused until it can. Check disk space and owner.",
    "error",
)  # fmt: skip
IBDB_SEGMENT = event("ibdb_segment", 10, "A new IBDB segment was begun.", "segment", "held")
IBDB_NOT_REMOVED = event(
    "ibdb_not_removed", 3, "An IBDB segment that is not needed any more could not be removed.",
    "segment", "error",
)  # fmt: skip
DEFEDB_OPENED = event("defedb_opened", 6, "The deferred queue is open.", "tas", "rcpts")
DEFEDB_PROBED = event(
    "defedb_probed", 6, "The deferred queue was checked after an unclean stop.", "result"
)
DEFEDB_REBUILT = event(
    "defedb_rebuilt", 1,
    "The deferred queue was damaged; what could be read went into a new one, the old is kept.",
    "kept_as", "tas", "rcpts", "lost",
)  # fmt: skip
DEFEDB_MENDED = event(
    "defedb_mended", 3,
    "Entries of the index of contents were lost; they were made again, no content is removed.",
    "count",
)  # fmt: skip
DEFEDB_DAMAGED = event(
    "defedb_damaged", 1,
    "A value in the deferred queue is damaged; it was set aside in the store and is not delivered.",
    "ta", "what",
)  # fmt: skip
