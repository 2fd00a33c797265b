"""A training without BatchNorm and without chance, on images of which very unlike numbers of pixels are labeled.

    torchrun --nproc-per-node 2 tests/uneven.py DATA OUT DECODER PASSES

gives the same numbers for any number of processes and passes, if all pixels of a step weigh the same.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from states import read_whole
from torch import nn

from semask import Augmentation, Data, MaskLoss, PixelLoss
from semask.builder import build
from semask.settings.training import Training
from semask.synthetic.dataset import write_synthetic
from semask.training.loop import train

SIZE = (64, 96)


def write_uneven(folder: Path) -> Path:
    """Scenes that are labeled in full, in a tenth, and not at all, in turn."""
    write_synthetic(folder, train=6, val=1, size=SIZE)
    for number, path in enumerate(sorted((folder / "annotations" / "train").iterdir())):
        label = np.array(Image.open(path))
        label[[SIZE[0], SIZE[0] // 10, 0][number % 3] :] = 255
        Image.fromarray(label).save(path)
    return folder


STEPS = {"segmenter": 3, "maskformer": 1}
"""Decoders, and for how many steps their runs can be compared.

Many gradients of MaskFormer's first step are zero but for rounding, and AdamW makes long steps of them.
"""


def train_uneven(data: Path, out: Path, decoder: str, *, passes: int) -> None:
    """Train with four images a step."""
    torch.manual_seed(0)
    model = build(
        "swin_nano", decoder, num_classes=11, prior_classes=7, channels=32, queries=5, decoder_layers=2,
        dropout=0.0, drop_path=0.0,
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    weighted = PixelLoss(class_weights=tuple(1.0 + i % 3 for i in range(11)))
    train(
        model,
        Data(root=str(data), workers=0, allow_empty_masks=True),
        out=str(out),
        augmentation=Augmentation(scale=None, crop=SIZE, flip=0.0),
        loss=MaskLoss() if model.decoder.makes_masks else weighted,
        training=Training(
            steps=STEPS[decoder],
            batch_size=4,
            accumulate=passes,
            lr=1e-3,
            warmup_steps=0,
            log_every=1,
            cpu=True,
            precision="fp32",  # on every machine the same
        ),
    )


def compare_runs(one: Path, other: Path) -> None:
    """Check that two runs have the same losses and the same gradients (first moments) in the end."""
    rows = [list(csv.DictReader((run / "log.csv").read_text(encoding="utf-8").splitlines())) for run in (one, other)]
    assert len(rows[0]) > 0
    for expected, found in zip(*rows, strict=True):
        for name in ("loss", "main", "prior"):
            assert float(found[name]) == pytest.approx(float(expected[name]), rel=1e-5), name
    states = [read_whole(run / "resume")[0] for run in (one, other)]
    names = sorted(name for name in states[0] if name.endswith(".exp_avg"))
    expected_moments, moments = (torch.cat([state[name].flatten() for name in names]) for state in states)
    difference = (moments - expected_moments).norm() / expected_moments.norm()
    assert difference < 1e-4, difference


if __name__ == "__main__":
    train_uneven(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], passes=int(sys.argv[4]))
