"""The process of a model, alone."""

import asyncio

import pytest
import torch

from semask.checkpoints.places import DEFAULT, EMBEDDED
from semask.serving.helper import Helper
from semask.serving.model_process import Source, model_main


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
@pytest.mark.parametrize(("given", "forgotten"), [(None, True), ("1024", False)], ids=["ours", "given"])
def test_kernels_that_are_kept(capfd, monkeypatch, given, forgotten):
    """Images of many sizes do not fill the memory with kernels; who runs the server may choose another number."""
    monkeypatch.setenv("ONEDNN_VERBOSE", "profile_create")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    if given is not None:
        monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", given)

    async def scenario():
        helper = Helper(model_main, (Source(str(EMBEDDED[DEFAULT]), {}, "cpu", "fp32", False, 1),), name="model")

        async def segment(width):
            head = {"shape": (32, width, 3), "dtype": "uint8", "tile": None}
            assert "seconds" in (await helper.ask(head, [bytes(32 * width * 3)], limit=60)).head
            return capfd.readouterr().out

        try:
            await helper.start(limit=120)
            said = await segment(32)
            made = said.count("cache_miss")
            assert made > 10
            for width in range(40, 40 + 8 * 30, 8):  # about 20 further kernels each
                made += (await segment(width)).count("cache_miss")
            assert 256 < made < 1024
            return "cache_miss" in await segment(32)
        finally:
            helper.close()

    assert asyncio.run(scenario()) == forgotten
