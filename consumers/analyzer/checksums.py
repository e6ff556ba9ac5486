"""Whether an object's bytes arrived as the store has them.

Only looked at where they cannot be decoded: a checksum of every file costs more than the GET does.
"""

import hashlib
import re

from consumers.analyzer.window import Task

_MD5 = re.compile(r"[0-9a-f]{32}")
"""What the ETag is of an object that was stored in one part, and not under a key of KMS."""


def spoiled_md5(task: Task) -> str | None:
    """The MD5 of bytes that may have been spoiled on their way; None if another GET would tell nothing new.

    The same bytes a second time are what the store has, whatever its ETag means.
    """
    etag = task.found.etag
    if task.raw is None or etag is None or not _MD5.fullmatch(etag):
        return None
    found = hashlib.md5(task.raw, usedforsecurity=False).hexdigest()
    return None if found in (etag, task.refused_md5) else found
