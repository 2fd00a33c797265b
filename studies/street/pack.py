"""Make the model of the package from the checkpoint of a run: weights in half precision, and what that changes.

    python studies/street/pack.py runs/street/best.safetensors --data data/camvid --out semask/models/street.safetensors

refuses to write a file that scores more than 0.05 % mIoU less than the checkpoint, or is larger than 8 MB.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import torch

from semask import Data, Evaluation, SeMask, evaluate, load
from semask.checkpoints.tensors import write_tensors

LARGEST = 8 * 10**6
"""Bytes of the file."""
MOST_LOST = 5e-4
"""mIoU that half precision may cost, in [0, 1]."""
KEPT = ("classes", "metrics", "step", "versions", "calibration")
"""What of the checkpoint's description stays, besides its recipe."""


def main() -> None:
    """Read, round, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", required=True, help="CamVid as images/ and annotations/, train and val")
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args()
    model = load(options.checkpoint)
    rounded = half(model)
    before, after = (score(x, options.data) for x in (model, rounded))
    print(f"mIoU {100 * before.scores.miou:.3f} % as trained, {100 * after.scores.miou:.3f} % in half precision")
    if before.scores.miou - after.scores.miou > MOST_LOST:
        raise SystemExit("half precision costs too much: nothing was written")
    tensors = {name: x.half() if x.is_floating_point() else x for name, x in rounded.state_dict().items()}
    if sum(x.nbytes for x in tensors.values()) > LARGEST:
        raise SystemExit("too large: nothing was written")
    write_tensors(options.out, tensors, description(model))
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


def half(model: SeMask) -> SeMask:
    """The model with weights that half precision can hold."""
    rounded = copy.deepcopy(model)
    rounded.load_state_dict(
        {name: x.half().float() if x.is_floating_point() else x for name, x in model.state_dict().items()}
    )
    if not all(x.isfinite().all() for x in rounded.state_dict().values()):
        raise SystemExit("a weight is too large for half precision: nothing was written")
    return rounded


def score(model: SeMask, root: str) -> Evaluation:
    """Evaluate on the validation images, whole."""
    return evaluate(model, Data(root), workers=0)


def description(model: SeMask) -> dict[str, Any]:
    """What the checkpoint says, without the places of the machine that it was trained on."""
    kept = {name: model.metadata[name] for name in KEPT if name in model.metadata}
    recipe = copy.deepcopy(model.metadata["recipe"])
    recipe["data"]["root"] = "data/camvid"
    return {**kept, "recipe": recipe}


if __name__ == "__main__":
    with torch.inference_mode():
        main()
