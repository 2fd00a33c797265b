"""The page of the app: what Gradio shows, and what happens when a photo comes."""

import base64
import html
import json
import shutil
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from semask.app.film_page import Films, add_films
from semask.app.filming import FilmLimits
from semask.app.models import AppModel
from semask.app.segmenting import Limits, segment
from semask.checkpoints.places import PHOTOS
from semask.data.images import encoded, read_image
from semask.files.text import out_of_memory, reason

HERE = Path(__file__).parent
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "Consolas", "monospace")
EVERY = 60
"""Seconds after which it is looked for files that are too old."""
GONE = "The photo is not kept any longer: choose it again."
NO_MEMORY = "There is not enough memory for this photo: make it smaller."
UNKNOWN = "This photo could not be segmented. The terminal of the app says why."
SESSIONS = 8
"""Pages whose last result Gradio keeps in memory; it is never asked for again."""
TURN = "segment"
"""One photo at a time goes through the models, whoever sent it."""


def photo_path(payload: Any) -> str | None:
    """Give the path of an upload as it is, for semask to decode within its limits.

    Gradio's own function would open the file with any decoder of Pillow, and take addresses that hold an image.

    Raises:
        Error: If it is no file that was uploaded.
    """
    if payload is None:
        return None
    path = payload.path
    if not path or not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise gr.Error("Send the photo as a file.", print_exception=False)
    return str(path)


def theme() -> gr.Theme:
    """Fonts of the system, colors with contrast: nothing is loaded from elsewhere."""
    blue = gr.themes.colors.blue
    plain = gr.themes.Default(primary_hue=blue, secondary_hue=blue, font=FONTS, font_mono=MONO)
    return plain.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
    )


def style() -> str:
    """The style sheet."""
    return _text("page.css")


def make_page(
    models: Sequence[AppModel],
    limits: Limits,
    *,
    film: FilmLimits,
    folder: Path,
    intro: str,
    kept: int,
    waiting: int,
) -> tuple[gr.Blocks, Films]:
    """Build the page.

    Args:
        models: What photos are put through; of two or more, two at a time are compared.
        limits: Pixels and tiles.
        film: Frames of a film, and pixels of one.
        folder: Ours, for the examples and for films.
        intro: A line that says which model is used.
        kept: Seconds after which an upload is deleted.
        waiting: Photos that may wait for their turn.

    Returns:
        The page, and the films that are segmented for it.
    """
    examples, turn = _copied(folder), threading.Lock()

    def example(event: gr.EventData) -> str:
        index: Any = getattr(event, "index", None)
        if index not in range(len(examples)):
            raise gr.Error("There is no such example.", print_exception=False)
        return str(examples[int(index)])

    def result(path: str | None, left: str | None = None, right: str | None = None) -> str | None:
        if path is None:
            return None
        names = [model.name for model in models]
        chosen = [models[names.index(name)] for name in dict.fromkeys((left, right)) if name in names]
        with turn:
            return _segmented(chosen or list(models[:2]), Path(path), limits)

    def gone(request: gr.Request) -> None:
        films.stop(request.session_hash)  # nobody is left to see it

    with gr.Blocks(title="SeMask", analytics_enabled=False, fill_width=True, delete_cache=(EVERY, kept)) as made:
        gr.HTML(f'<header class="semask-head"><h1>SeMask</h1><p>{html.escape(intro)}</p></header>', elem_id="head")
        with gr.Tab("Photo"):
            photo, choice, sides, viewer = _photo(models, examples)
        with gr.Tab("Film"):
            films = Films(models, film, folder / "files", turn, made.upload_file_set.add)
            add_films(films, text=_text, json=_json, path_of=photo_path)
        common: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
        choice.click(example, None, photo, **common)
        gr.on(
            [photo.change, *(side.input for side in sides)],
            result,
            [photo, *sides],
            viewer,
            trigger_mode="always_last",
            concurrency_limit=1,
            concurrency_id=TURN,
            **common,
        )
        made.unload(gone)
    page: gr.Blocks = made
    page.has_launched = True  # else files are taken that were not uploaded: Gradio sets it in launch alone
    page.state_session_capacity = SESSIONS
    page.queue(max_size=waiting, default_concurrency_limit=1, api_open=False)
    return page, films


def _photo(
    models: Sequence[AppModel], examples: Sequence[Path]
) -> tuple[gr.Image, gr.HTML, list[gr.Dropdown], gr.HTML]:
    """Add the part for photos: the input, the examples, the choice of models, and the result."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            photo = gr.Image(
                label="Photo",
                type="filepath",
                image_mode=None,
                sources=["upload", "clipboard", "webcam"],
                buttons=[],
                height=260,
                elem_id="photo",
                alt_text="The photo that was chosen",
                webcam_options=gr.WebcamOptions(mirror=False),
            )
            photo.preprocess = photo_path  # type: ignore[method-assign] # a subclass would get a file of Gradio's
            choice = gr.HTML(
                _examples(examples), js_on_load=_text("examples.js"), apply_default_css=False, elem_id="examples"
            )
            sides = _sides(models)
        with gr.Column(scale=3, min_width=320):
            viewer = gr.HTML(
                None,
                html_template=_text("viewer.html"),
                js_on_load=_text("viewer.js"),
                apply_default_css=False,
                elem_id="viewer",
            )
    return photo, choice, sides, viewer


def _segmented(models: Sequence[AppModel], path: Path, limits: Limits) -> str:
    """The result as JSON, or one sentence that says why there is none."""
    if not path.is_file():
        return _json({"error": GONE, "panes": []})
    try:
        return _json(segment(models, path, limits))
    except ValueError as error:
        said = NO_MEMORY if out_of_memory(error) else reason(error, longest=1000)
    except Exception as error:
        if out_of_memory(error):
            said = NO_MEMORY
        else:
            traceback.print_exc(file=sys.stderr)
            said = UNKNOWN
    return _json({"error": said, "panes": []})


def _json(content: dict[str, Any]) -> str:
    """JSON without anything that Gradio could take for HTML."""
    return json.dumps(content).replace("<", "\\u003c")


def _sides(models: Sequence[AppModel]) -> list[gr.Dropdown]:
    """Which two of several models are compared; nothing to choose among one or two."""
    if len(models) <= 2:
        return []
    names = [model.name for model in models]
    return [
        gr.Dropdown(names, value=names[i], label=text, filterable=False) for i, text in enumerate(("Left", "Right"))
    ]


def _copied(folder: Path) -> list[Path]:
    """The photographs of the package, where Gradio may take files from."""
    target = folder / "examples"
    target.mkdir()
    return [Path(shutil.copy(photo, target)) for photo in PHOTOS]


def _examples(photos: Sequence[Path]) -> str:
    buttons = []
    for number, photo in enumerate(photos, start=1):
        picture = read_image(photo)
        picture.thumbnail((200, 150))
        data = base64.b64encode(encoded(picture, "JPEG")).decode()
        text = f"Street photo {number}"
        buttons.append(f'<button type="button"><img alt="{text}" src="data:image/jpeg;base64,{data}"></button>')
    return f'<section class="semask-examples"><h2>Examples</h2><div>{"".join(buttons)}</div></section>'


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
