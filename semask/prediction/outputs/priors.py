"""NAME_prior1.png ...: what the semantic prior of each stage favors, in colors."""

from semask.data.images import encoded
from semask.files.atomic import write_whole
from semask.prediction.output import Output
from semask.prediction.pictures import colorize
from semask.prediction.segmentation import Segmentation


def write(segmentation: Segmentation) -> None:
    """Write the priors."""
    assert segmentation.prediction is not None
    for stage, prior in enumerate(segmentation.prediction.priors, start=1):
        picture = colorize(prior, segmentation.classes)
        write_whole(segmentation.path(f"_prior{stage}.png"), encoded(picture, "PNG"))


OUTPUT = Output(
    write,
    endings=tuple(f"_prior{stage}.png" for stage in range(1, 5)),
    whole="priors are not written in tiles: leave out --priors or --tile",
)
