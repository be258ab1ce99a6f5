import asyncio

lock = asyncio.Lock()


async def main(req, res):
    async with lock:
        await asyncio.sleep(0.001)
    res.send("awaited " + req.payload)
