import json
import subprocess
import sys

import pytest
import together
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from many import environment, write_scenes

from semask.metrics.confusion import ConfusionMatrix, count


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_any_number_of_images_gives_the_integers_of_one_process(tmp_path, processes):
    scenes, out = write_scenes(tmp_path / "scenes"), tmp_path / "found.json"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    paths = f"{environment()['PYTHONPATH']}/tests:{environment()['PYTHONPATH']}"
    subprocess.run(
        [*launcher, together.__file__, str(scenes), str(out)],
        check=True, env={**environment(), "PYTHONPATH": paths}, timeout=300, capture_output=True,
    )  # fmt: skip
    found = json.loads(out.read_text(encoding="utf-8"))
    assert len(found) == 5  # 1 to 5 images: fewer than processes, as many, and more
    assert found == json.loads(json.dumps(together.evaluations(scenes)))
    assert found[4] != found[3]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(0, 20), st.integers(1, 12))
def test_matrices_of_any_ranks_add_up_to_that_of_all(seed, processes, images, classes):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (images, 1, 5, 7), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    predictions = torch.randint(0, classes, labels.shape, generator=generator)
    whole = ConfusionMatrix(classes)
    ranks = [ConfusionMatrix(classes) for _ in range(processes)]
    for index in range(images):
        counts = count(predictions[index], labels[index], classes)
        whole.add(counts)
        ranks[index % processes].add(counts)
    total = torch.stack([matrix.counts for matrix in ranks]).sum(0)
    assert total.dtype == torch.int64
    assert torch.equal(total, whole.counts)
    assert int(total.sum()) == int((labels != 255).sum())
