"""What a person sees: progress, addresses and errors; plain lines where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_problem(message: str) -> None:
    """One problem on the error stream."""
    err.print(Text("error: ", style="bold red") + Text(message), soft_wrap=True)


@dataclass(slots=True)
class LineObserver:
    """Tells of processes as plain lines, for logs and pipes."""

    labels: Mapping[str, str]
    addresses: Mapping[str, str]
    closing: str

    def starting(self, name: str) -> None:
        """Say that a process starts."""
        self._say(f"starting {self._label(name)}")

    def ready(self, name: str, took_ms: int) -> None:
        """Say that a process is ready, and how long that took."""
        self._say(f"ready    {self._label(name)} ({took_ms / 1000:.1f} s)")

    def all_ready(self) -> None:
        """Say where everything is."""
        for what, address in self.addresses.items():
            self._say(f"{what}: {address}")
        self._say(self.closing)

    def died(self, name: str, what_happened: str, retry_in_ms: int) -> None:
        """Say what died, and when it is started again."""
        self._say(f"died     {self._label(name)}: {what_happened}; again in {retry_in_ms} ms")

    def stopping(self, names: Sequence[str]) -> None:
        """Say what is being stopped."""
        if names:
            self._say("stopping " + ", ".join(names))

    def _label(self, name: str) -> str:
        return self.labels.get(name, name)

    def _say(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


@dataclass(slots=True)
class LiveObserver:
    """Tells of processes as a table that is redrawn in place until everything is ready."""

    labels: Mapping[str, str]
    addresses: Mapping[str, str]
    closing: str
    _live: Live | None = None
    _states: dict[str, Spinner | Text] = field(default_factory=dict)

    def starting(self, name: str) -> None:
        """Show a spinner for the process."""
        if self._live is None:
            self._live = Live(console=out, refresh_per_second=10)
            self._live.start()
        self._show(name, Spinner("dots", text=Text("starting", style="yellow")))

    def ready(self, name: str, took_ms: int) -> None:
        """Show that the process is ready, and how long that took."""
        self._show(name, Text(f"ready in {took_ms / 1000:.1f} s", style="green"))

    def all_ready(self) -> None:
        """Leave the finished table on the screen, and say where everything is."""
        self._end()
        table = Table.grid(padding=(0, 2))
        for what, address in self.addresses.items():
            table.add_row(Text(what), Text(address, style="bold"))
        if self.addresses:
            out.print()
            out.print(table)
            out.print()
        out.print(Text(self.closing, style="bold green"))

    def died(self, name: str, what_happened: str, retry_in_ms: int) -> None:
        """Show what died, and when it is started again."""
        state = Text(f"{what_happened}; again in {retry_in_ms} ms", style="red")
        self._show(name, state)
        if self._live is None:
            out.print(Text(f"{self._label(name)}: ", style="bold") + state)

    def stopping(self, names: Sequence[str]) -> None:
        """Say what is being stopped."""
        self._end()
        if names:
            out.print(Text("Stopping " + ", ".join(names), style="dim"))

    def _label(self, name: str) -> str:
        return self.labels.get(name, name)

    def _show(self, name: str, state: Spinner | Text) -> None:
        self._states[name] = state
        if self._live is not None:
            table = Table.grid(padding=(0, 2))
            for known, label in self.labels.items():
                waiting = Text("waiting", style="dim")
                table.add_row(Text(label), self._states.get(known, waiting))
            self._live.update(table)

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._states.clear()


def observer(
    labels: Mapping[str, str], addresses: Mapping[str, str], closing: str, plain: bool = False
) -> LineObserver | LiveObserver:
    """Redrawn table on a terminal, plain lines elsewhere or where asked for.

    Once everything is ready, both say `addresses` and then `closing`.
    """
    kind = LineObserver if plain or not out.is_terminal else LiveObserver
    return kind(labels, addresses, closing)
