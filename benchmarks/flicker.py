"""What smoothing does to flicker and mIoU: a film of labeled frames, segmented with and without it.

    python benchmarks/flicker.py camvid --split val --model street --out flicker.json

The labeled frames have to be those of one clip, in the order of their names, at one rate: CamVid's val are 101 frames,
15 in a second. They become an H.264 film of high quality, which `semask predict` segments; its label maps are compared
with the labels, and its own measure of flicker is taken. The first row has the images themselves instead of the film.
"""

import argparse
import json
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

import semask
from semask.data.dataset import SegmentationDataset
from semask.data.images import read_mask
from semask.data.source import Data
from semask.metrics.confusion import ConfusionMatrix

SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    *({"smoothing": share} for share in (0.3, 0.5, 0.7, 0.9)),
    *({"smoothing": share, "smoothing_change": 16} for share in (0.3, 0.5, 0.7, 0.9)),
    *({"smoothing": share, "smoothing_change": 8} for share in (0.5, 0.9)),
)


def write_film(path: Path, dataset: SegmentationDataset, rate: int) -> None:
    """Make a film of the images of a data set."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "4", "preset": "medium"})
        _, stream.height, stream.width = dataset.image(0).shape
        stream.pix_fmt = "yuv420p"
        for index in range(len(dataset)):
            image = dataset.image(index).permute(1, 2, 0).numpy()
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def miou(labels: list[NDArray[np.uint8]], dataset: SegmentationDataset) -> float:
    """Compare label maps with the labels of a data set."""
    matrix = ConfusionMatrix(len(dataset.classes))
    for index, label in enumerate(labels):
        matrix.update(torch.from_numpy(label)[None].long(), torch.from_numpy(dataset.label_array(index))[None].long())
    return matrix.scores().miou


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of a data set in the layout `folder`")
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="street")
    parser.add_argument("--rate", type=int, default=15, help="frames in a second")
    parser.add_argument("--out", help="JSON file to write the rows to")
    options = parser.parse_args()
    dataset = Data(root=options.data, val_split=options.split).dataset("val")
    predictor = semask.Predictor(semask.load(options.model, device="cpu"))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        write_film(film, dataset, options.rate)
        images = [predictor(dataset.image(i), confidence=False).label for i in range(len(dataset))]
        rows.append({"settings": "images, no film", "miou": miou(images, dataset), "flicker": None})
        for settings in SETTINGS:
            out = Path(folder) / "out"
            (result,) = semask.predict(
                predictor.model, film, out=out, write=["mask"], film=settings, inference=predictor.inference
            )
            assert result.film is not None
            assert result.mask is not None
            labels = [read_mask(file) for file in sorted(result.mask.glob("*.png"))]
            row = {"settings": settings, "miou": miou(labels, dataset), "flicker": result.film.flicker}
            row["still"] = result.film.still / (result.film.size[0] * result.film.size[1] * (len(labels) - 1))
            rows.append(row)
            print(json.dumps(row), flush=True)
    print("| settings | mIoU % | flicker % |\n|---|---|---|")
    for row in rows:
        flicker = "" if row.get("flicker") is None else f"{100 * row['flicker']:.2f}"
        print(f"| {row['settings'] or 'no smoothing'} | {100 * row['miou']:.2f} | {flicker} |")
    if options.out:
        Path(options.out).write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
