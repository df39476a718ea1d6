"""Where the commands find the API, and the number that a person gave them."""

from __future__ import annotations

import sys

from consent.errors import Rejected
from consent.numbers import canonical_number
from consent_ledger.client import ApiAddress
from consent_ledger.settings import Settings


def api_address(settings: Settings, given: str | None) -> ApiAddress:
    """The address given, else that of the settings; the key from its file."""
    key = None
    if settings.api_key_file is not None:
        try:
            key = settings.api_key_file.read_text().strip()
        except OSError as problem:
            reason = problem.strerror or "can't be read"
            path = str(settings.api_key_file)
            raise Rejected("NO_FILE", "CONSENT_API_KEY_FILE", path, reason) from problem
    url = given or settings.api_url
    if not url.startswith(("http://", "https://")):
        raise Rejected("INVALID_ADDRESS", "--to", url, "give http://host:port or https://host")
    return ApiAddress(url.rstrip("/"), key)


def number_given(text: str, settings: Settings) -> str:
    """E.164 of the argument, or of a line of standard input for `-`.

    Through standard input a number stays out of the shell's history and the process list.
    """
    if text == "-":
        text = sys.stdin.readline()
    return canonical_number(text, settings.region_default)
