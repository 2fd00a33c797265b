"""Labels of labeling tools: the classes, and one for pixels that are not to be learned."""

from semask.data.annotations import IGNORED_LABEL
from semask.data.classes import IGNORE_INDEX, Classes
from semask.files.text import for_xml

IGNORED_COLOR = (128, 128, 128)


def names_of(classes: Classes) -> dict[int, str]:
    """Value in a label map -> name of its label, as XML can hold it."""
    return {value: for_xml(name) for value, name in enumerate(classes.names)} | {IGNORE_INDEX: IGNORED_LABEL}


def colors_of(classes: Classes) -> dict[str, str]:
    """Name of a label -> its color, #rrggbb, in the order of the classes; the ignored label is the last."""
    colors = map("#{:02x}{:02x}{:02x}".format, *zip(*classes.palette, IGNORED_COLOR, strict=True))
    return dict(zip(names_of(classes).values(), colors, strict=True))
