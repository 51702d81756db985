"""A worker that takes messages from a queue and does nothing with them: `queue_child.py URL COUNT`."""

import asyncio
import sys

from permutive_worker.config import Input, Settings
from permutive_worker.worker.queues import open_queue


async def main(url: str, count: int) -> None:
    source = open_queue(Settings(input=Input(create=True)), url)
    await source.open()
    received = 0
    while received < count:
        received += len(await source.receive(1_000))
    print("holding", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
