"""Stopping a consumer whatever its fetches are at."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer and close its connections.

    While a fetch waits to be sent again, to a broker that is away, aiokafka's own `stop` lets the
    cancellation of that fetch out as if its caller had been cancelled, and leaves the
    connections open. Whoever follows a topic for ever would end there without a word.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait({stopping})
    if stopping.cancelled():
        await consumer._client.close()  # noqa: SLF001 (no public way)
    else:
        stopping.result()
