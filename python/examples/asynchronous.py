"""Queries of many clients at once, in one event loop, and one that nobody waits for any more."""

import asyncio

from qembed_q import Embedder


async def main() -> None:
    embedder = Embedder()
    queries = [f"question {number}" for number in range(8)]
    vectors = await asyncio.gather(*(embedder.aencode(query, task="query") for query in queries))
    print(len(vectors), "vectors of", vectors[0].shape[0], "values")
    long = asyncio.create_task(embedder.aencode(["some words " * 500] * 1000))
    await asyncio.sleep(0.1)
    long.cancel()
    try:
        await long
    except asyncio.CancelledError:
        print("called off")


asyncio.run(main())
