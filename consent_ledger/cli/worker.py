"""`consent-ledger worker`: run one worker as this process."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import typer

from consent_ledger.adapters import topic_administration
from consent_ledger.bootstrap import project_config, record_config, worker_options
from consent_ledger.bootstrap_brokers import admin_connection, adopt_registry_ids, topic_layout
from consent_ledger.bootstrap_store import prepare_store
from consent_ledger.logging import configure_logging
from consent_ledger.settings import Settings, load_settings

Name = Literal["project", "record", "seal"]


def command(
    name: Annotated[Name, typer.Argument(help="project: states; record: history; seal: proofs.")],
) -> None:
    """Run one worker until it is stopped with SIGTERM or Ctrl-C.

    `project` folds events into one state per number, which dialers consume; `record` writes the
    history; `seal` signs the proof log. Start as many of the first two as there are partitions, at
    most, and one `seal`, on the folder of the log. Exit code 0 after a stop, 3 if brokers or store
    are away at the start, 70 after a failure.
    """
    settings = load_settings()
    configure_logging(settings.log_level, settings.log_format, f"worker-{name}")
    asyncio.run(adopt_registry_ids(settings))
    topic_administration.verify(admin_connection(settings), topic_layout(settings))
    raise typer.Exit(_RUN[name](settings))


def _project(settings: Settings) -> int:
    from streams.project import run_project_worker

    return run_project_worker(
        project_config(settings), worker_options(settings, settings.project_port)
    )


def _record(settings: Settings) -> int:
    from streams.record import run_record_worker

    prepare_store(settings)
    return run_record_worker(
        record_config(settings), worker_options(settings, settings.record_port)
    )


def _seal(settings: Settings) -> int:
    from consent_ledger.bootstrap import seal_config
    from streams.seal import run_seal_worker

    prepare_store(settings)
    return run_seal_worker(seal_config(settings), worker_options(settings, settings.seal_port))


_RUN = {"project": _project, "record": _record, "seal": _seal}
