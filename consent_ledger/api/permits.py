"""`GET /.well-known/jwks.json`: the keys that verify permits, for anybody."""

from __future__ import annotations

import time
from typing import Any

from litestar import Response, get

from consent_ledger.api.parts import ApiRequest, parts_of


@get(
    "/.well-known/jwks.json",
    summary="Keys that verify permits",
    tags=["calls"],
    sync_to_thread=False,
)
def key_set(request: ApiRequest) -> Response[dict[str, Any]]:
    """A JSON Web Key Set (RFC 7517) of Ed25519 keys, each as long as a permit of it can be good.

    A new key stands here before it signs, for longer than the answer may be kept.
    """
    permits = parts_of(request).permits
    headers = {"cache-control": f"public, max-age={permits.key_set_max_age_s}"}
    return Response(permits.key_set(time.time_ns() // 1_000), headers=headers)
