"""Street-like scenes drawn by a program: a data set that needs no download and is the same on every machine.

Each scene is a street in perspective: sky, houses, a road with lane marks and junctions, pavements, trees, lamps and
signs, cars, people on foot and on bicycles, under changing light, haze and noise. Classes differ in what surrounds them
rather than in how they look, since telling such classes apart is what a semantic prior is for:

- **road / pavement**: colors from one distribution (in half of the scenes the very same color), one texture. Lane
  marks, curbs and the course of the street tell them apart.
- **sky / building**: glass fronts mirror the scene's own sky and its clouds.
- **car / building** and **person / building**: posters on walls show cars and people, painted by the same code.
- **pole / tree**: a trunk is a post of the same widths and colors as a lamp's or a sign's; what it carries decides.
- **person / rider**: one figure; the bicycle under it decides. People also cross the road, so their place does not.

Small things (people, signs, posts a few pixels wide) stand before large regions (road, sky, houses). A pixel whose four
samples disagree lies on a border and is ignored (255), and so is the hood of the camera's own car.
"""

import json
from pathlib import Path

from PIL import Image

from semask.data.classes import IGNORE_INDEX
from semask.data.images import encoded
from semask.data.progress import Track, untracked
from semask.files.atomic import write_whole
from semask.files.text import reason
from semask.synthetic.classes import CLASSES, PALETTE
from semask.synthetic.scene import DRAWING, check_scene, draw_scene


def write_synthetic(
    root: str | Path,
    *,
    train: int = 200,
    val: int = 40,
    seed: int = 0,
    size: tuple[int, int] = (192, 256),
    track: Track = untracked,
) -> Path:
    """Write a data set of scenes as a folder of pictures and index masks, unless it is there already.

    The folder holds `images/SPLIT/*.jpg` and `annotations/SPLIT/*.png` for the splits `train` and `val`,
    `synthetic.json` with the settings, and `classes.json`, which is written last. Scenes of even number are for
    training and those of odd number for validation, so that the two never share one, whatever their lengths; a longer
    set begins with the scenes of a shorter one.

    Args:
        root: Folder to write; new, empty, or one that this function wrote with the same settings.
        train: Scenes for training, 1 or more.
        val: Scenes for validation, 1 or more.
        seed: Number of the data set, 0 or more.
        size: Height and width of the pictures, in pixels.
        track: Shows how far it is.

    Returns:
        The folder.

    Raises:
        ValueError: If an argument is out of range, or the folder holds something else or can't be written.
    """
    root = Path(root)
    settings = {"drawing": DRAWING, "train": train, "val": val, "seed": seed, "size": list(size)}
    check_scene(seed, 0, size)
    if train < 1 or val < 1:
        raise ValueError(f"train and val count scenes and must be 1 or more, but got train {train} and val {val}")
    try:
        if _is_complete(root, settings):
            return root
        _write_json(root / "synthetic.json", settings)
        scenes = [("train", 2 * k) for k in range(train)] + [("val", 2 * k + 1) for k in range(val)]
        for split, index in track(scenes, "Drawing scenes", len(scenes)):
            _write_scene(root, split, seed, index, size)
        meaning = {"name": "synthetic", "classes": CLASSES, "palette": PALETTE, "ignore_index": IGNORE_INDEX}
        _write_json(root / "classes.json", meaning)
    except OSError as error:
        raise ValueError(f"{root}: can't hold the synthetic data set ({reason(error)}); give another folder") from error
    return root


def _is_complete(root: Path, settings: dict[str, object]) -> bool:
    """Whether the folder holds the whole data set; an interrupted one is written anew, a foreign one is refused."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / "synthetic.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"{root}: exists and is no synthetic data set; give a new or empty folder") from None
    if found != settings:
        raise ValueError(
            f"{root}: holds a synthetic data set of {found}, not of {settings}; give another folder or delete it"
        )
    return (root / "classes.json").exists()


def _write_scene(root: Path, split: str, seed: int, index: int, size: tuple[int, int]) -> None:
    picture, label = draw_scene(seed, index, size=size)
    mask = Image.fromarray(label)
    # All 256 entries: with fewer, a PNG would be stored in four bits, which can't hold 255.
    mask.putpalette(bytes(channel for color in PALETTE for channel in color).ljust(3 * 256, b"\0"))
    image_path = root / "images" / split / f"{index:05d}.jpg"
    mask_path = root / "annotations" / split / f"{index:05d}.png"
    write_whole(image_path, encoded(picture, "JPEG", quality=92, subsampling=0))
    write_whole(mask_path, encoded(mask, "PNG"))


def _write_json(path: Path, content: dict[str, object]) -> None:
    write_whole(path, json.dumps(content, indent=1) + "\n")
