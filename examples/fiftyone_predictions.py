"""Look at predictions in FiftyOne, the images first of which the model is least sure.

    pip install fiftyone
    python examples/fiftyone_predictions.py runs/mine photos --out predictions --launch

The folder gets two files an image: NUMBER_NAME.png, the class index + 1 of each pixel (FiftyOne does not show 0, which
is what is ignored here), and NUMBER_NAME_confidence.png. FiftyOne needs MongoDB, which it installs or finds by itself;
another one is named by FIFTYONE_DATABASE_URI.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from semask.data.classes import IGNORE_INDEX, Classes
from semask.prediction.files import find_images
from semask.prediction.opening import open_predictor
from semask.prediction.pictures import confidence_map
from semask.prediction.requested import Outputs
from semask.prediction.results import predict_images


class Looked(NamedTuple):
    """An image and what was predicted for it."""

    image: Path
    mask: Path
    confidence: Path
    mean_confidence: float
    classes: list[str]
    """Names of the classes that occur."""


def look(predictor: Any, images: Sequence[str], out: Path) -> Iterator[Looked]:
    """Predict images and write what FiftyOne shows of each."""
    out.mkdir(parents=True, exist_ok=True)
    results = predict_images(predictor, find_images(list(images)), Outputs(write=["mask", "confidence"]))
    for number, result in enumerate(results):
        if result.prediction is None:
            print(result.failure)
            continue
        label, sure = result.prediction.label, result.prediction.confidence
        stem = f"{number:06}_{result.image.stem}"
        mask, confidence = out / f"{stem}.png", out / f"{stem}_confidence.png"
        known = label != IGNORE_INDEX
        Image.fromarray(np.where(known, label + 1, 0).astype(np.uint8)).save(mask)
        confidence_map(sure).save(confidence)
        classes = [predictor.classes.names[k] for k in np.unique(label[known])]
        mean = float(sure[known].mean()) if known.any() else 0.0
        yield Looked(result.image.resolve(), mask.resolve(), confidence.resolve(), mean, classes)


def dataset_of(found: Sequence[Looked], classes: Classes, name: str) -> Any:
    """Make a data set of FiftyOne that stays, in place of one of the same name; the least certain images first."""
    import fiftyone

    dataset = fiftyone.Dataset(name, persistent=True, overwrite=True)
    dataset.default_classes = list(classes.names)
    dataset.default_mask_targets = dict(enumerate(classes.names, start=1))
    colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in classes.palette]
    targets = [{"intTarget": value, "color": color} for value, color in enumerate(colors, start=1)]
    dataset.app_config.color_scheme = fiftyone.ColorScheme(color_by="value", default_mask_targets_colors=targets)
    dataset.add_samples(
        [
            fiftyone.Sample(
                filepath=str(x.image),
                prediction=fiftyone.Segmentation(mask_path=str(x.mask)),
                confidence=fiftyone.Heatmap(map_path=str(x.confidence), range=[0, 255]),
                mean_confidence=x.mean_confidence,
                classes=fiftyone.Classifications(
                    classifications=[fiftyone.Classification(label=name) for name in x.classes]
                ),
            )
            for x in sorted(found, key=lambda x: x.mean_confidence)
        ]
    )
    dataset.save()
    return dataset


def main() -> None:
    """Read the arguments, predict, and make the data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint, folder of a run, or exported file")
    parser.add_argument("images", nargs="+", help="files, folders or patterns")
    parser.add_argument("--out", type=Path, default=Path("predictions"), help="folder of masks and confidence")
    parser.add_argument("--name", default="semask", help="of the data set; one of this name is replaced")
    parser.add_argument("--launch", action="store_true", help="open the app of FiftyOne")
    options = parser.parse_args()
    predictor = open_predictor(options.model).predictor
    found = list(look(predictor, options.images, options.out))
    dataset = dataset_of(found, predictor.classes, options.name)
    print(f"{dataset.name}: {len(dataset)} images, the least certain first")
    if options.launch:
        import fiftyone

        fiftyone.launch_app(dataset).wait()


if __name__ == "__main__":
    main()
