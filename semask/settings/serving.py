"""How a server answers: where it listens, what it accepts, how long it takes at most."""

from dataclasses import dataclass
from typing import Annotated, Any

from semask.files.schema import Length, Range, require_fields

Seconds = Annotated[float, Range(0, 86_400, above=True)]
Megabytes = Annotated[int, Range(1, 2**20)]


@dataclass(frozen=True)
class Serving:
    """How a server answers.

    Attributes:
        host: Address to listen on. Any other than this machine's own needs a token.
        port: Port to listen on; 0 for any free one.
        token_file: File with the token that requests have to carry, or several, a line each; null for the one in the
            environment variable SEMASK_TOKEN, if there is one.
        origins: Web pages that may use the server from a browser (CORS), e.g. https://example.org; none by default.
        label_studio: Address of the Label Studio that the server is an ML backend for, e.g. http://127.0.0.1:8080.
            Images of its tasks are fetched from there and from nowhere else; null: it is no ML backend.
        label_studio_token_file: File with the token of a user of Label Studio, with which images are fetched; null for
            the one in the environment variable SEMASK_LABEL_STUDIO_TOKEN.
        max_batch: Images of one size that go through the model together, at most.
        batch_wait: Seconds that an image waits for others that are being decoded, while the model has nothing to do.
        queue: Images that wait for a model, at most; more are refused with 429.
        deadline: Seconds in which a request is answered, unless it asks for another time.
        max_deadline: Seconds that a request may ask for.
        max_megabytes: Size of an image file, at most.
        max_pixels: Pixels of an image, at most; checked before it is decoded.
        memory_megabytes: Bodies and decoded images in the memory of the server, all together.
        connections: Open connections, at most.
        upload_seconds: Seconds in which a request has to be sent.
        decoders: Processes that decode images and encode answers.
        decode_seconds: Seconds that decoding an image, or encoding an answer, may take.
        decode_megabytes: Memory that it may take.
        compute_seconds: Seconds that the model may take for a batch; after that its process is started again.
        threads: Threads that a model computes with; null for one a core.
        tile: Side in pixels of the tiles in which large images are segmented; 0 for never.
        overlap: Pixels that tiles share with their neighbors.
        tile_above: Pixels above which an image is segmented in tiles, where the model's recipe does not resize it.
        drain_seconds: Seconds for which a server that was told to stop says that it is not ready, and still accepts.
        grace_seconds: Seconds in which a server that stops finishes what it has accepted.
        watch_seconds: Seconds from one look at the files of the models to the next, to load those that were replaced;
            0 for never.

    Raises:
        ValueError: If a setting is out of its range.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Range(0, 65_535)] = 8000
    token_file: str | None = None
    origins: Annotated[tuple[str, ...], Length(0, 64)] = ()
    label_studio: str | None = None
    label_studio_token_file: str | None = None
    max_batch: Annotated[int, Range(1, 256)] = 8
    batch_wait: Annotated[float, Range(0, 10)] = 0.01
    queue: Annotated[int, Range(1, 65_536)] = 64
    deadline: Seconds = 30.0
    max_deadline: Seconds = 300.0
    max_megabytes: Megabytes = 32
    max_pixels: Annotated[int, Range(1, 2**31)] = 50_000_000
    memory_megabytes: Megabytes = 1024
    connections: Annotated[int, Range(1, 65_536)] = 512
    upload_seconds: Seconds = 30.0
    decoders: Annotated[int, Range(1, 64)] = 2
    decode_seconds: Seconds = 20.0
    decode_megabytes: Megabytes = 1024
    compute_seconds: Seconds = 600.0
    threads: Annotated[int, Range(1, 1024)] | None = None
    tile: Annotated[int, Range(0, 16_384)] = 1024
    overlap: Annotated[int, Range(0, 8192)] = 128
    tile_above: Annotated[int, Range(1, 2**31)] = 4_194_304
    drain_seconds: Annotated[float, Range(0, 3600)] = 1.0
    grace_seconds: Seconds = 30.0
    watch_seconds: Annotated[float, Range(0, 86_400)] = 5.0

    def __post_init__(self) -> None:
        require_fields(self, "serving")
        if self.deadline > self.max_deadline:
            raise ValueError(
                f"deadline is {self.deadline:g}, more than max_deadline, {self.max_deadline:g}: set it lower"
            )
        if self.tile and 2 * self.overlap > self.tile:
            raise ValueError(
                f"overlap is {self.overlap}, more than half of tile, {self.tile}: set it to {self.tile // 2} at most"
            )
        if self.max_megabytes > self.memory_megabytes:
            raise ValueError(
                f"max_megabytes is {self.max_megabytes}, more than memory_megabytes, {self.memory_megabytes}: "
                "set it lower"
            )


Options = Annotated[dict[str, Any], Serving]
"""Fields of `Serving` as options of a command; those that are not given are not in it."""
