"""What Label Studio asks for: the images of its tasks, and the tags and labels of its labeling config.

Anybody may have written it, so it is read in a process with limits of memory and time (codec.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.parsers import expat

from semask.data.annotations import IGNORED_LABEL
from semask.files.reading import parse_json
from semask.files.schema import quoted
from semask.files.text import one_line, reason
from semask.prediction.outputs.label_studio import BRUSH, IMAGE

MOST_TASKS = 10_000
MOST_CONFIG = 2**20
"""Characters of a labeling config."""
DEEPEST = 64
"""Levels of nesting of a labeling config."""


def read_request(body: bytes, names: Sequence[str]) -> dict[str, Any]:
    """Read what Label Studio sends to /setup or /predict.

    Args:
        body: JSON of anybody.
        names: Labels of the classes of the model.

    Returns:
        "images": for each task {"image": ADDRESS} or {"fault": LINE}; "fault": why the labeling config does not fit the
        model, or None; "from_name", "to_name" and "ignored": its tags, and whether it has the label `__ignore__`.

    Raises:
        ValueError: If it is not what Label Studio sends.
    """
    try:
        request = parse_json(body.decode())
    except ValueError as error:
        raise ValueError(f"the body is no JSON ({reason(error)}): expected what Label Studio sends") from error
    if not isinstance(request, dict):
        raise ValueError("the body is no JSON object: expected what Label Studio sends")
    tasks, config = request.get("tasks", []), request.get("label_config", request.get("schema"))
    if not isinstance(tasks, list) or len(tasks) > MOST_TASKS:
        raise ValueError(f"tasks is no list of at most {MOST_TASKS:,} tasks")
    found: dict[str, Any] = {"fault": None, "from_name": BRUSH, "to_name": IMAGE, "ignored": True}
    key = IMAGE
    try:
        if config not in (None, ""):
            tags = read_config(config, names)
            key = tags.pop("key")
            found |= tags
    except ValueError as error:
        found["fault"] = str(error)
    return {**found, "images": [image_of(task, key) for task in tasks]}


def image_of(task: Any, key: str) -> dict[str, str]:
    """Address of the image of a task, or what is wrong with the task."""
    data = task.get("data") if isinstance(task, dict) else None
    address = data.get(key) if isinstance(data, dict) else None
    if not isinstance(address, str) or not address:
        return {"fault": f"the task has no address of an image in data.{one_line(key, longest=60)}"}
    return {"image": address}


def read_config(text: Any, names: Sequence[str]) -> dict[str, Any]:
    """Find the brush for an image in a labeling config.

    Args:
        text: XML of anybody. Nothing in it is expanded.
        names: Labels of the classes of the model.

    Returns:
        "key": name of the image in the data of a task; "from_name", "to_name", "ignored".

    Raises:
        ValueError: If there is no such brush, or it lacks labels.
    """
    if not isinstance(text, str) or len(text) > MOST_CONFIG:
        raise ValueError(f"the labeling config is no text of at most {MOST_CONFIG:,} characters")
    brushes, images = tags_of(text)
    fitting = [brush for brush in brushes if brush["to_name"] in images]
    if not fitting:
        raise ValueError(
            'the labeling config has no BrushLabels for an Image: add <BrushLabels name="label" toName=...>'
        )
    brush = min(fitting, key=lambda brush: len(set(names) - brush["labels"]))
    missing = [name for name in names if name not in brush["labels"]]
    if missing:
        shown = ", ".join(one_line(name, longest=60) for name in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise ValueError(
            f"{quoted(brush['from_name'], longest=60)} of the labeling config lacks classes of the model: "
            f"{shown}{more}: add a Label for each"
        )
    value = images[brush["to_name"]]
    if not value.startswith("$") or len(value) < 2:
        raise ValueError(f"the Image of the labeling config has value {quoted(value, longest=60)}: expected $image")
    return {
        "key": value[1:],
        "from_name": brush["from_name"],
        "to_name": brush["to_name"],
        "ignored": IGNORED_LABEL in brush["labels"],
    }


def tags_of(text: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Brushes of a labeling config with their labels, and the images: name -> value.

    Raises:
        ValueError: If it is no XML, defines entities, or is nested too deeply.
    """
    brushes: list[dict[str, Any]] = []
    images: dict[str, str] = {}
    inside: list[str] = []
    parser = expat.ParserCreate()

    def start(tag: str, attributes: Mapping[str, str]) -> None:
        inside.append(tag.lower())
        if len(inside) > DEEPEST:
            raise ValueError(f"the labeling config is nested more than {DEEPEST} levels deep")
        values = {name.lower(): value for name, value in attributes.items()}
        if inside[-1] == "image":
            images[values.get("name", "")] = values.get("value", "")
        elif inside[-1] == "brushlabels":
            brushes.append({"from_name": values.get("name", ""), "to_name": values.get("toname", ""), "labels": set()})
        elif inside[-1] == "label" and "brushlabels" in inside:
            brushes[-1]["labels"] |= {values[name] for name in ("value", "alias") if name in values}

    def doctype(*_: object) -> None:
        raise ValueError("the labeling config has a DOCTYPE: remove it")

    parser.StartElementHandler, parser.StartDoctypeDeclHandler = start, doctype
    parser.EndElementHandler = lambda tag: inside.pop()
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise ValueError(f"the labeling config is no XML ({reason(error)})") from error
    return brushes, images
