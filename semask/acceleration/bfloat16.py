"""Prediction in bfloat16."""

from torch import Tensor, nn

from semask.model import SeMask


def use_bfloat16(model: SeMask) -> SeMask:
    """Predict in bfloat16 from now on, in place: less time and memory, and labels that differ where two are close.

    The encoder and a per-pixel decoder get bfloat16 weights; a mask decoder stays in float32, since positions and the
    logits of many masks need its digits. Images still come as float32.
    """
    model.encoder.bfloat16().register_forward_pre_hook(to_bfloat16)
    if model.decoder.makes_masks:
        model.decoder.register_forward_pre_hook(to_float32)
    else:
        model.decoder.bfloat16()
    return model


def to_bfloat16(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Give an encoder its image in bfloat16."""
    return (inputs[0].bfloat16(),)


def to_float32(_: nn.Module, inputs: tuple[tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...]]:
    """Give a decoder its maps in float32."""
    return (tuple(x.float() for x in inputs[0]),)
