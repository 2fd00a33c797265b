"""Put real ADE20K files through an untrained model: a check of the data path, not of accuracy.

python examples/ade20k_untrained.py FOLDER    # holds images/validation and annotations/validation
"""

import sys

import torch

from semask import Data, Inference, Predictor
from semask.builder import build
from semask.evaluation.evaluate import evaluate_model
from semask.metrics.confusion import percent

torch.manual_seed(0)
dataset = Data(root=sys.argv[1], format="ade20k").dataset("val")
pixels = dataset.check().pixels
model = build("swin_nano", num_classes=len(dataset.classes), channels=64)
result = evaluate_model(Predictor(model, Inference(scale=(2048, 512))), dataset, workers=0)
print(f"{result.images} images, {pixels.sum():,} labeled pixels of {(pixels > 0).sum()} classes")
print(f"untrained: mIoU {percent(result.scores.miou)} %, {percent(result.scores.overall_accuracy)} % of the pixels")
assert sum(result.scores.pixels) == pixels.sum(), "every labeled pixel has to be counted once"
