"""HTTP sessions: what a client changed with SET, USE or a temporary table, until it goes quiet.

Owns the connections that outlive a request. A session that changed nothing holds none, since
clients open sessions by habit; the first statement that changes it leaves its connection behind.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from projections.embedded_clickhouse_engine import Connection
from projections.embedded_clickhouse_wire import ClickHouseError


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How many sessions are held, and for how long without a request."""

    sessions_max: int = 1_024
    timeout_default_s: int = 60
    timeout_max_s: int = 3_600


@dataclass(slots=True)
class Session:
    """One session; `connection` is None until a statement has changed it."""

    name: str
    timeout_s: int
    expires_at_s: float
    busy: bool = True
    connection: Connection | None = None


class Sessions:
    """All sessions of one front; safe for any thread. One request at a time uses a session."""

    def __init__(self, limits: SessionLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def enter(self, name: str, timeout_s: int | None, must_exist: bool, now_s: float) -> Session:
        """The session of that name for this request alone, made when there is none.

        Raises ClickHouseError 372 when it must exist and does not, 373 while another request
        holds it, 374 for a time-out that is too long, 202 when there are too many.
        """
        limits = self._limits
        timeout = limits.timeout_default_s if timeout_s is None else timeout_s
        if not 0 <= timeout <= limits.timeout_max_s:
            raise ClickHouseError(
                374,
                "INVALID_SESSION_TIMEOUT",
                f"Session timeout '{timeout}' is larger than the maximum: {limits.timeout_max_s}",
            )
        with self._lock:
            self._expire(now_s)
            session = self._sessions.get(name)
            if session is None:
                if must_exist:
                    raise ClickHouseError(372, "SESSION_NOT_FOUND", f"Session {name} not found")
                if len(self._sessions) >= limits.sessions_max:
                    raise ClickHouseError(202, "TOO_MANY_SIMULTANEOUS_QUERIES", "Too many sessions")
                session = self._sessions[name] = Session(name, timeout, now_s + timeout)
            elif session.busy:
                raise ClickHouseError(
                    373, "SESSION_IS_LOCKED", f"Session {name} is locked by a concurrent client"
                )
            session.busy, session.timeout_s = True, timeout
            return session

    def leave(self, session: Session, now_s: float, close: bool = False) -> None:
        """End of a request; `close` forgets the session at once."""
        with self._lock:
            session.busy = False
            session.expires_at_s = float("-inf") if close else now_s + session.timeout_s
            self._expire(now_s)

    def close(self) -> None:
        """Forget every session; call it when no request runs any more."""
        with self._lock:
            for session in self._sessions.values():
                session.busy, session.expires_at_s = False, float("-inf")
            self._expire(0.0)

    def _expire(self, now_s: float) -> None:
        over = [s for s in self._sessions.values() if not s.busy and s.expires_at_s <= now_s]
        for session in over:
            del self._sessions[session.name]
            if session.connection is not None:
                session.connection.close()
