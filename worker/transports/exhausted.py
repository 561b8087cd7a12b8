"""A connection or a child that this worker has no file descriptor for: its own lack, and not the upstream's.

Another worker may have one, and this one may in a moment. So the upstream counts as what it was before, and front ends
send the call to another of its workers, if there is one (``gateway.fleet.pool``). Pure.
"""

from __future__ import annotations

import errno

from shared.errors import ELSEWHERE, NotDelivered

_LACKS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


def exhausted(error: BaseException | None) -> NotDelivered | None:
    """Return the error of a call that fails because of ``error``, or ``None`` if that says something of the
    upstream."""
    if not isinstance(error, OSError) or error.errno not in _LACKS:
        return None
    text = f"this worker cannot open a connection now ({error.strerror}); raise its limits, as of open files"
    return NotDelivered("not_delivered", text, {ELSEWHERE: "1"})
