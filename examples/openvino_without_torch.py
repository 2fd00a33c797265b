"""Segment a photo with an exported model, without torch: numpy, Pillow and openvino only.

python examples/openvino_without_torch.py model.xml photo.jpg mask.png
"""

import json
import sys

import numpy as np
import openvino
from PIL import Image, ImageOps

BILINEAR = Image.Resampling.BILINEAR
model = openvino.Core().read_model(sys.argv[1])
compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
about = json.loads(model.get_rt_info(["semask"]).astype(str))
photo = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")

evaluation, divisor = about["recipe"]["evaluation"], about["size_divisor"]
long, short = evaluation.get("scale") or (max(photo.size), min(photo.size))
factor = min(long / max(photo.size), short / min(photo.size))
size = tuple(int(side * factor + 0.5) for side in photo.size)  # width, height
padded = [-(-side // divisor) * divisor for side in size]
shrink = (photo.width / size[0], 0, 0, 0, photo.height / size[1], 0)
plain = photo.transform(size, Image.Transform.AFFINE, shrink, BILINEAR)  # Pillow's resize smooths, as few recipes do
image = np.float32(photo.resize(size, BILINEAR) if evaluation.get("antialias") else plain) / 255
image = (image - np.float32(about["mean"])) / np.float32(about["std"])
results = compiled(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
*classes, maps = (results[output] for output in compiled.outputs)  # maps [1, K or Q, h, w]

maps = (np.array(Image.fromarray(x).resize(padded, BILINEAR).crop((0, 0, *size))) for x in maps[0])
if classes:  # a mask decoder: each of Q masks has a probability of each class, the last is "no object"
    odds = np.exp(classes[0][0] - classes[0][0].max(axis=-1, keepdims=True))
    shares = (odds / odds.sum(axis=-1, keepdims=True))[:, :-1]
    masks = np.stack([1 / (1 + np.exp(-x)) for x in maps])
    maps = (np.tensordot(share, masks, 1) for share in shares.T)
label, best = np.zeros(photo.size[::-1], np.uint8), np.full(photo.size[::-1], -np.inf, np.float32)
for k, scores in enumerate(maps):  # one class at a time: all of them at the size of a photo are huge
    scores = np.array(Image.fromarray(scores).resize(photo.size, BILINEAR))
    label[scores > best] = k
    best = np.maximum(best, scores)
mask = Image.fromarray(label)
mask.putpalette(bytes(np.uint8(about["classes"]["palette"])))
mask.save(sys.argv[3])
print(*(about["classes"]["classes"][k] for k in np.unique(label)), sep=", ")
