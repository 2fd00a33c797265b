"""The files of an explanation: the page, the numbers, and a PNG of each map."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from semask.data.images import encoded
from semask.explain.pictures import count_colors, fractions, indexed, step_colors
from semask.files.atomic import write_whole
from semask.prediction.pictures import confidence_map, index_mask

if TYPE_CHECKING:
    from semask.explain.explanation import Explanation

ENDINGS = (".html", ".json", "_prediction.png", "_confidence.png")
"""What the names of files end in that every explanation has."""


def save(explanation: "Explanation", folder: Path, name: str) -> list[Path]:
    """Write all files of an explanation; see `Explanation.save`."""
    contents: dict[str, bytes | str] = {f"{name}.html": explanation.page(title=f"Glass box: {name}")}
    contents[f"{name}.json"] = json.dumps(explanation.to_dict(), indent=1) + "\n"
    for ending, picture in maps(explanation):
        contents[f"{name}_{ending}.png"] = encoded(picture, "PNG")
    for file, content in contents.items():
        write_whole(folder / file, content)
    return [folder / file for file in contents]


def maps(explanation: "Explanation") -> Iterator[tuple[str, Image.Image]]:
    """Give each map with the end of its name."""
    prediction, stages = explanation.prediction, explanation.stages
    yield "prediction", prediction.mask()
    if prediction.confidence is not None:
        yield "confidence", confidence_map(prediction.confidence)
    if not stages:
        return
    yield "first", indexed(explanation.first, step_colors(len(stages)))
    yield "settled", indexed(explanation.settled, step_colors(len(stages)))
    yield "disagreement", indexed(explanation.disagreement, count_colors(len(stages)))
    highest = highest_change(explanation)
    for stage in stages:
        yield f"prior{stage.stage}", index_mask(stage.label, prediction.classes)
        yield f"prior_confidence{stage.stage}", confidence_map(stage.confidence)
        yield f"change{stage.stage}", fractions(stage.attention.on_image(stage.change), highest=highest)


def highest_change(explanation: "Explanation") -> float:
    """Largest relative change of any layer: all stages are painted on one scale."""
    return max((float(stage.attention.on_image(stage.change).max()) for stage in explanation.stages), default=0.0)
