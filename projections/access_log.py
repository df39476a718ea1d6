"""Writes down who looks at what, before it is shown.

An access is an entry of the proof log: kept in `log_entries`, from where the sealer takes it, and
shown by the view `access_log`. So there is one insert, and no access that is kept but not sealed.
"""

from __future__ import annotations

import time
import uuid

from consent.accesses import Access, access_entry
from projections.clickhouse import Store
from projections.log_store import keep_entry


def record_access(store: Store, access: Access) -> str:
    """Keep an access for good and return its id; raises what the store raises if it is not kept.

    Whoever is asked for something answers only after this: what can't be recorded is not shown.
    """
    access_id = str(uuid.uuid4())
    keep_entry(store, access_entry(access, access_id, time.time_ns() // 1000))
    return access_id
