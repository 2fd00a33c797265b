"""The processes that decode and encode, and who gets them first."""

import asyncio
import io
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="needs the extra: pip install 'semask[serve]'")

from semask.data.bands import Reading
from semask.data.classes import Classes
from semask.serving.metrics import Metrics
from semask.serving.pool import Pool
from semask.settings.serving import Serving

READING = asdict(Reading())
CLASSES = Classes(("road", "sky")).as_dict()


def test_what_is_computed_is_encoded_before_others_are_decoded():
    """One process, which decodes a large image while others wait."""
    ended: list[str] = []

    async def ask(pool, name, head, parts):
        await pool.ask(head, parts, end_in=60, most=2**30)
        ended.append(name)

    async def scenario():
        pool = Pool(Serving(decoders=1), Metrics())
        await pool.start()
        try:
            decode = {"task": "decode", "reading": READING}
            encode = {"task": "encode", "format": "png", "size": (8, 8), "classes": CLASSES, "about": {}}
            jobs = [asyncio.create_task(ask(pool, name, decode, [jpeg(2000)])) for name in ("first", "second", "third")]
            await asyncio.sleep(0.01)
            await asyncio.gather(*jobs, ask(pool, "answer", encode, [bytes(64)]))
            gone = [asyncio.create_task(ask(pool, "gone", decode, [jpeg(2000)])) for _ in range(3)]
            await asyncio.sleep(0.01)
            for job in gone:
                job.cancel()
            await ask(pool, "last", decode, [jpeg(8)])
            return len(pool.free)
        finally:
            pool.close()

    assert asyncio.run(scenario()) == 1
    assert ended == ["first", "answer", "second", "third", "last"]


def jpeg(side: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()
