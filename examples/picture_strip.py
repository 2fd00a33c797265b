"""Draw a strip of pictures: image, label, prediction, and the semantic priors of stages 1 to 4.

    python examples/picture_strip.py demo/run demo/data --index 0 --out strip.jpg
    python examples/picture_strip.py runs/camvid camvid --index 33 --out docs/images/strip.jpg

The first two arguments are a checkpoint (or the folder of a run) and a folder with images and masks (docs/data.md).
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import semask
from semask.prediction.pictures import colorize

TITLE = 26
"""Height of the line of titles in pixels."""


def strip(model: semask.SeMask, dataset: semask.SegmentationDataset, index: int, *, width: int) -> Image.Image:
    """Predict one validation image and draw what came out, each picture `width` pixels wide."""
    image, label = dataset[index]
    prediction = semask.Predictor(model)(image, priors=True)
    maps = {"label": label.numpy(), "prediction": prediction.label}
    maps |= {f"prior of stage {stage}": prior for stage, prior in enumerate(prediction.priors, start=1)}
    photo = Image.fromarray(image.permute(1, 2, 0).numpy())
    pictures = {"image": photo} | {title: colorize(map_, dataset.classes) for title, map_ in maps.items()}
    return in_a_row(pictures, width=width)


def in_a_row(pictures: dict[str, Image.Image], *, width: int, gap: int = 4) -> Image.Image:
    """Put pictures next to each other, each under its title."""
    first = next(iter(pictures.values()))
    height = round(first.height * width / first.width)
    canvas = Image.new("RGB", (len(pictures) * (width + gap) - gap, TITLE + height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(TITLE * 0.6)
    for column, (title, picture) in enumerate(pictures.items()):
        left = column * (width + gap)
        draw.text((left + width / 2, TITLE / 2), title, fill="black", font=font, anchor="mm")
        how = Image.Resampling.LANCZOS if title == "image" else Image.Resampling.NEAREST
        canvas.paste(picture.resize((width, height), how), (left, TITLE))
    return canvas


def main() -> None:
    """Read the arguments and write the strip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("data", help="folder with images/val, annotations/val and classes.json")
    parser.add_argument("--index", type=int, default=0, help="which validation image")
    parser.add_argument("--width", type=int, default=240, help="of each picture, in pixels")
    parser.add_argument("--out", type=Path, default=Path("strip.jpg"))
    options = parser.parse_args()
    dataset = semask.Data(options.data).dataset("val")
    picture = strip(semask.load(options.checkpoint), dataset, options.index, width=options.width)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(options.out, quality=90)
    print(f"{options.out}: {picture.width} x {picture.height} pixels")


if __name__ == "__main__":
    main()
