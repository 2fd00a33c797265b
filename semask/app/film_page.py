"""The part of the page for films: an upload, a button that starts and one that stops, and the overlaid film."""

import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from semask.app.filming import FilmLimits, Stopped, Turns, segment_film
from semask.app.models import AppModel
from semask.data.film_files import FILM_SUFFIXES
from semask.extras import require
from semask.files.text import one_line, out_of_memory, reason

NO_MEMORY = "There is not enough memory for this film: make it smaller."
UNKNOWN = "This film could not be segmented. The terminal of the app says why."
FILM = "film"
"""One film at a time, whoever sent it."""


class Films:
    """The films that are segmented, by the session that sent them.

    Args:
        models: The models of the page.
        limits: Frames and pixels.
        folder: Folder of what the server gives to browsers.
        turn: Held by whoever uses the models.
        kept: Is told the path of each file that is to be deleted in time.
    """

    def __init__(
        self,
        models: Sequence[AppModel],
        limits: FilmLimits,
        folder: Path,
        turn: threading.Lock,
        kept: Callable[[str], None],
    ) -> None:
        self.models, self.limits, self.folder, self.turn, self.kept = models, limits, folder, turn, kept
        self.stops: dict[str | None, threading.Event] = {}
        self.running: set[str | None] = set()

    def ask(self, session: str | None) -> None:
        """Note that a session wants a film, so that it can be stopped while it waits for its turn."""
        if session not in self.running:
            self.stops[session] = threading.Event()

    def segment(self, path: str | None, model: str | None, session: str | None, progress: Any) -> dict[str, Any]:
        """Segment a film, and say what came of it."""
        if path is None:
            return {"error": "Choose a film first."}
        stop = self.stops.setdefault(session, threading.Event())
        self.running.add(session)
        chosen = next((x for x in self.models if x.name == model), self.models[0])
        reporter = Turns(self.turn, stop, lambda done, what: progress(done, desc=what, unit="frames"))
        try:
            if stop.is_set():
                raise Stopped
            made = segment_film(chosen, Path(path), self.folder, self.limits, reporter)
        except Stopped:
            return {"error": "The film was stopped."}
        except ValueError as error:
            return {"error": NO_MEMORY if out_of_memory(error) else reason(error, longest=1000)}
        except Exception as error:
            if out_of_memory(error):
                return {"error": NO_MEMORY}
            traceback.print_exc(file=sys.stderr)
            return {"error": UNKNOWN}
        finally:
            self.running.discard(session)
            self.stops.pop(session, None)
        self.kept(made["path"])
        return made

    def stop(self, session: str | None) -> None:
        """End the film of a session."""
        event = self.stops.get(session)
        if event is not None:
            event.set()

    def stop_all(self) -> None:
        """End all films: the server stops."""
        for event in list(self.stops.values()):
            event.set()


def add_films(
    films: Films, *, text: Callable[[str], str], json: Callable[[dict[str, Any]], str], path_of: Callable[[Any], Any]
) -> None:
    """Add the part for films to the page that is being built.

    Args:
        films: What segments them.
        text: Reads a file next to this one.
        json: Makes the text that goes to the browser.
        path_of: Gives the path of an upload.
    """
    try:
        require("av")
    except ValueError as error:
        gr.HTML(f'<p class="semask">{one_line(error)}</p>', elem_id="film")
        return

    def start(
        path: str | None,
        model: str | None = None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> str:
        return json(films.segment(path, model, request.session_hash, progress))

    def ask(request: gr.Request) -> None:
        films.ask(request.session_hash)

    def stop(request: gr.Request) -> None:
        films.stop(request.session_hash)

    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            film = gr.File(label="Film", file_types=list(FILM_SUFFIXES), type="filepath", height=150, elem_id="film")
            film.preprocess = path_of  # type: ignore[method-assign, assignment]
            names = [model.name for model in films.models]
            choice = [gr.Dropdown(names, value=names[0], label="Model", filterable=False)] if len(names) > 1 else []
            begin = gr.Button("Segment the film", variant="primary")
            end = gr.Button("Stop")
            gr.HTML(f'<p class="semask">At most {films.limits.frames:,} frames.</p>', elem_id="film-limit")
        with gr.Column(scale=3, min_width=320):
            result = gr.HTML(
                None,
                html_template=text("film.html"),
                js_on_load=text("film.js"),
                apply_default_css=False,
                elem_id="film-result",
                min_height=120,
            )
    common: dict[str, Any] = {"api_visibility": "private"}
    at_once: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", **common}
    one: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": FILM, "trigger_mode": "once", **common}
    begin.click(ask, None, None, **at_once).success(start, [film, *choice], result, **one)
    end.click(stop, None, None, **at_once)
