"""The 17 models that SeMask's authors published: where their weights lie, how they are evaluated, what they score."""

import difflib
from dataclasses import dataclass
from typing import Any

MULTISCALE: dict[str, Any] = {"ratios": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), "flip": True}
"""Settings of `Inference` for the published multi-scale numbers, in addition to those of a single scale."""

_LICENCES = {
    "fpn": "Apache-2.0",
    "maskformer": "Apache-2.0, parts CC-BY-NC-4.0 (MaskFormer)",
    "mask2former": "Apache-2.0, parts CC-BY-NC-4.0 (Mask2Former)",
    "mask2former_fapn": "Apache-2.0, parts CC-BY-NC-4.0 (Mask2Former), parts unlicensed (FaPN-full)",
    "mask2former_msfapn": "Apache-2.0, parts CC-BY-NC-4.0 (Mask2Former), parts unlicensed (FaPN-full)",
}


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
        name: SEMASK-SIZE-DECODER-DATA, e.g. semask-tiny-fpn-ade20k.
        encoder: Encoder of `SeMask`.
        decoder: Decoder of `SeMask`.
        format: Layout of the data set, whose classes the model has.
        semantic_window: Scope of the semantic attention of each of the 4 stages: side of its windows, None for global.
        scale: Long and short side in pixels that images are fitted into for evaluation.
        miou: Published mIoU in percent: one scale, not mirrored.
        miou_multiscale: Published mIoU in percent with `MULTISCALE`.
        drive_id: The file's name on Google Drive.
    """

    name: str
    encoder: str
    decoder: str
    format: str
    semantic_window: tuple[int | None, int | None, int | None, int | None]
    scale: tuple[int, int]
    miou: float
    miou_multiscale: float
    drive_id: str

    @property
    def url(self) -> str:
        """Address to download from."""
        return f"https://drive.google.com/uc?id={self.drive_id}"

    @property
    def page(self) -> str:
        """Address for a browser."""
        return f"https://drive.google.com/file/d/{self.drive_id}/view"

    @property
    def licence(self) -> str:
        """Licence in the published repository; the data set has its own terms."""
        return _LICENCES[self.decoder]

    @property
    def config(self) -> str:
        """Recipe to train the model with, below recipes/."""
        *model, _ = self.name.split("-")
        return f"{self.format}/{'_'.join(model)}.yaml"

    @property
    def antialias(self) -> bool:
        """Whether images are smoothed when they are made smaller: detectron2 does so, mmsegmentation does not."""
        return self.decoder != "fpn"

    @property
    def recipe(self) -> dict[str, Any]:
        """The sections `data` and `evaluation` of a recipe, as JSON: the published single-scale protocol."""
        evaluation = {"scale": list(self.scale), "mode": "whole", "ratios": [1.0], "flip": False}
        return {"data": {"format": self.format}, "evaluation": {**evaluation, "antialias": self.antialias}}

    @property
    def multiscale(self) -> dict[str, Any]:
        """The section `evaluation` for the published multi-scale protocol, as JSON."""
        return {**self.recipe["evaluation"], "ratios": list(MULTISCALE["ratios"]), "flip": MULTISCALE["flip"]}


def find(name: str) -> Published:
    """Find a published model by its name.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in PUBLISHED:
        raise ValueError(f"{name!r} is no published model: did you mean {', '.join(nearest(name, 3))}?")
    return PUBLISHED[name]


def nearest(name: str, count: int = 1) -> list[str]:
    """Names of published models that are spelled most alike, the best first."""
    return difflib.get_close_matches(name, PUBLISHED, n=count, cutoff=0)


_G = None  # global
# fmt: off
_ROWS = (
    # name, encoder, decoder, data | semantic window, scale | mIoU, multi-scale | file on Google Drive
    Published("semask-tiny-fpn-ade20k", "swin_tiny", "fpn", "ade20k",
              (7, 7, _G, _G), (2048, 512), 42.06, 43.36, "1L0daUHWQGNGCXHF-cKWEauPSyBV0GLOR"),
    Published("semask-small-fpn-ade20k", "swin_small", "fpn", "ade20k",
              (7, 7, _G, _G), (2048, 512), 45.92, 47.63, "1QhDG4SyGFtWL5kP9BbBoyPqTuFu7fH_y"),
    Published("semask-base-fpn-ade20k", "swin_base", "fpn", "ade20k",
              (12, 12, 12, 12), (2048, 512), 49.35, 50.98, "1PXCEhrrUy5TJC4dUp7YDQvaapnMzGT6C"),
    Published("semask-large-fpn-ade20k", "swin_large", "fpn", "ade20k",
              (12, 12, _G, _G), (2560, 640), 51.89, 53.52, "1u5flfAQCiQJbMZbZPIlGUGTYBz9Ca7rE"),
    Published("semask-large-maskformer-ade20k", "swin_large", "maskformer", "ade20k",
              (12, 12, 12, _G), (2560, 640), 54.75, 56.15, "1KgKQLGv9CcBqeEvOEDdxQ-O6lpMfHBLw"),
    Published("semask-large-mask2former-ade20k", "swin_large", "mask2former", "ade20k",
              (12, 12, 12, _G), (2560, 640), 56.41, 57.52, "1hN1I4Wv7_1FCPOsfA-5PELn6Xn3b_R8a"),
    Published("semask-large-mask2former-fapn-ade20k", "swin_large", "mask2former_fapn", "ade20k",
              (12, 12, _G, _G), (2560, 640), 56.88, 58.25, "1njy_RSEXiyx29O_xFraHqsItTHOtw_qc"),
    Published("semask-large-mask2former-msfapn-ade20k", "swin_large", "mask2former_msfapn", "ade20k",
              (12, 12, _G, _G), (2560, 640), 57.00, 58.25, "1DQ9KltSLDj47H2jYnCtVwyBf7KPR9SM_"),
    Published("semask-tiny-fpn-cityscapes", "swin_tiny", "fpn", "cityscapes",
              (7, 7, 7, 7), (2048, 1024), 74.92, 76.56, "1_JBOJQSUVes-CWs075XyPnuNfG5psELr"),
    Published("semask-small-fpn-cityscapes", "swin_small", "fpn", "cityscapes",
              (7, 7, 7, 7), (2048, 1024), 77.13, 79.14, "1WyT207dZmdwETBUR6aeiqOVfQdUIV_fN"),
    Published("semask-base-fpn-cityscapes", "swin_base", "fpn", "cityscapes",
              (12, 12, 12, 12), (2048, 1024), 77.70, 79.73, "1-LzVB6XzD7IR0zzE5qmE0EM4ZTv429b4"),
    Published("semask-large-fpn-cityscapes", "swin_large", "fpn", "cityscapes",
              (12, 12, 12, 12), (2048, 1024), 78.53, 80.39, "1R9DDCmucQ_a_6ZkMGufEZCzJ-_qVMqCB"),
    Published("semask-large-mask2former-cityscapes", "swin_large", "mask2former", "cityscapes",
              (7, 7, 7, 7), (2048, 1024), 83.97, 84.98, "14fZQWQuBUu2qlpy3wyQ42xs6gQNg2DZX"),
    Published("semask-tiny-fpn-cocostuff10k", "swin_tiny", "fpn", "coco_stuff",
              (7, 7, _G, _G), (2048, 512), 37.53, 38.88, "1qhXsJ8H64JPI_DW7CNzhxpHSEG2sKaIl"),
    Published("semask-small-fpn-cocostuff10k", "swin_small", "fpn", "coco_stuff",
              (7, 7, _G, _G), (2048, 512), 40.72, 42.27, "1ddXSMQu5ClkbLNMyQdyT0ATaOr86vIkL"),
    Published("semask-base-fpn-cocostuff10k", "swin_base", "fpn", "coco_stuff",
              (12, 12, 12, 12), (2048, 512), 44.63, 46.30, "1pGWI7U9bZJoe4ZaDx7ktWELx-uVN7rL0"),
    Published("semask-large-fpn-cocostuff10k", "swin_large", "fpn", "coco_stuff",
              (12, 12, _G, _G), (2560, 640), 47.47, 48.54, "1F6B9x9pX-SYEth7hdtxeNUeQ3XncOH7G"),
)
# fmt: on

PUBLISHED: dict[str, Published] = {row.name: row for row in _ROWS}
"""The published models by name."""
