"""A state too large for the topic restricts more instead of stopping its partition."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.party_links import PARTY_REF
from consent.state import Attribute, DncEntry, LegalHold, SubjectState, Withdrawal, merge
from consent.state_codec import decode_state_body, encode_state_body
from consent.state_limits import OVERFLOW, STATE_BYTES_MAX, bounded_body
from tests.subject_events import PlacedEvent, fold, placed_events, states


@settings(max_examples=150, deadline=None)
@given(st.lists(placed_events(), min_size=1, max_size=20), st.integers(0, 2_000))
def test_a_bounded_state_never_permits_more(events: list[PlacedEvent], bytes_max: int) -> None:
    """Each restriction of the state is in it, at least as wide and as late; grants may be gone."""
    state = fold(events)
    body = encode_state_body(state)
    cut = decode_state_body(bounded_body(body, bytes_max))
    if len(body) <= bytes_max:
        assert cut == state
        return
    real = {key: value for key, value in state.withdrawals.items() if key[0][:5] != "test:"}
    total = cut.withdrawals.get(("*", "*", "*", "*"))
    for key, withdrawal in real.items():
        held = cut.withdrawals.get(key, total)
        assert held is not None
        assert held.at >= withdrawal.at
    for dnc_key, entry in state.dnc.items():
        if entry.listed and not dnc_key[0].startswith("test:"):
            held_entry = cut.dnc.get(dnc_key) or cut.dnc["*", "INTERNAL", OVERFLOW]
            assert held_entry.listed
            assert held_entry.whole_party or not entry.whole_party
    assert cut.erased == state.erased
    assert cut.applied == state.applied
    assert cut.grants.items() <= state.grants.items()
    assert all(cut.attributes.get(name) == link for name, link in newest_links(state, bytes_max))
    if any(hold.held for key, hold in state.legal_holds.items() if not key.startswith("test:")):
        assert any(hold.held for hold in cut.legal_holds.values())


def newest_links(state: SubjectState, bytes_max: int) -> list[tuple[str, Attribute]]:
    """The newest real link of a state, if there is ample room for it."""
    links = [item for item in state.attributes.items() if item[0].startswith(PARTY_REF)]
    return sorted(links, key=lambda item: (item[1], item[0]))[-1:] if bytes_max > 500 else []


@settings(max_examples=100, deadline=None)
@given(states(), st.integers(0, 500))
def test_bounding_again_changes_nothing(state: SubjectState, bytes_max: int) -> None:
    """Also after the larger state was met once more, as a cold reader does."""
    body = encode_state_body(state)
    cut = bounded_body(body, bytes_max)
    assert bounded_body(cut, bytes_max) == cut
    met = encode_state_body(merge(decode_state_body(cut), state))
    assert bounded_body(met, bytes_max) == cut


def test_a_flood_of_sellers_fits_in_a_record() -> None:
    """Ten thousand withdrawals, lists and holds of one number."""
    state = SubjectState(
        withdrawals={
            (f"seller-{n}", "*", "*", "*"): Withdrawal(n, f"{n:036d}", "WITHDRAWN")
            for n in range(10_000)
        },
        dnc={
            (f"seller-{n}", "INTERNAL", "internal"): DncEntry(n, f"{n:036d}", True, n, n == 7)
            for n in range(10_000)
        },
        legal_holds={f"hold-{n}": LegalHold(n, True) for n in range(10_000)},
    )
    link = Attribute(3, ("0f" * 16,))
    links = {f"{PARTY_REF}seller-{n}": Attribute(n % 5_000, ("0f" * 16,)) for n in range(20_000)}
    flooded = encode_state_body(replace(state, attributes=links))
    assert STATE_BYTES_MAX // 3 < len(bounded_body(flooded)) < STATE_BYTES_MAX
    state = replace(state, attributes={f"{PARTY_REF}acme": link})
    body = encode_state_body(state)
    assert len(body) > STATE_BYTES_MAX
    cut = bounded_body(body)
    assert len(cut) < 1_000
    assert decode_state_body(cut).withdrawals["*", "*", "*", "*"].at == 9_999
    assert decode_state_body(cut).dnc["*", "INTERNAL", OVERFLOW].whole_party
    left = replace(decode_state_body(cut), withdrawals={}, dnc={}, legal_holds={})
    assert left == SubjectState(attributes=state.attributes)
