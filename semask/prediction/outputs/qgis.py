"""NAME.qml: the colors and names of the classes for QGIS, which finds the file next to the mask by its name."""

from xml.etree import ElementTree

from semask.data.classes import Classes
from semask.files.atomic import write_whole
from semask.files.text import for_xml
from semask.prediction.output import Output
from semask.prediction.segmentation import Segmentation

DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"


def write(segmentation: Segmentation) -> None:
    """Write the style of the mask, and of the cloud-optimized one if there is one."""
    style = style_of(segmentation.classes)
    for ending in (".qml", *(["_cog.qml"] if "cog" in segmentation.kinds else [])):
        write_whole(segmentation.path(ending), style)


def style_of(classes: Classes) -> str:
    """Make the style: a palette with one entry a class."""
    root = ElementTree.Element("qgis", version="3.0")
    renderer = ElementTree.SubElement(
        ElementTree.SubElement(root, "pipe"),
        "rasterrenderer",
        type="paletted",
        band="1",
        opacity="1",
        alphaBand="-1",
        nodataColor="",
    )
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for value, (name, color) in enumerate(zip(classes.names, classes.palette, strict=True)):
        ElementTree.SubElement(
            palette,
            "paletteEntry",
            value=str(value),
            color="#{:02x}{:02x}{:02x}".format(*color),
            label=for_xml(name),
            alpha="255",
        )
    ElementTree.indent(root, " ")
    return DOCTYPE + ElementTree.tostring(root, encoding="unicode") + "\n"


OUTPUT = Output(write, endings=(".qml", "_cog.qml"))
