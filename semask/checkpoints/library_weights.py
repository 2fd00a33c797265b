"""Weights of a library's backbone, fetched and adapted by the library's own means."""

from torch import Tensor, nn

from semask.encoders.backbone import LibraryBackbone
from semask.encoders.library import hub_name, timm_model
from semask.files.text import one_line, reason


def load_library_weights(backbone: LibraryBackbone, source: str, *, in_channels: int) -> list[str]:
    """Load weights by the library's own means: timm's or the Hub's download, its conversion and adaptation.

    Args:
        backbone: Backbone to fill.
        source: Name of a model with weights in timm (with or without tag), or OWNER/NAME of transformers weights;
            "library" for those of the backbone's own name.
        in_channels: Channels of the image.

    Returns:
        Names of the tensors that were loaded.

    Raises:
        ValueError: If the weights can't be had, or are of another model.
    """
    library, _, name = backbone.name.partition("/")
    name = name if source == "library" else source.removeprefix(library + "/")
    try:
        if library == "timm":
            state = timm_model(name, in_channels, None, backbone.options, pretrained=True).state_dict()
        else:
            from transformers import AutoModel

            name = hub_name(name)
            fetched = AutoModel.from_pretrained(name, trust_remote_code=False)
            state = with_bands(fetched.state_dict(), backbone.model.state_dict())
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"could not get the weights {one_line(repr(name))} of {library} ({reason(error)}): check name and network"
        ) from error
    fill(backbone.model, state, name)
    return list(state)


def with_bands(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adapt a first convolution over RGB to our channels, as timm does: repeated and scaled, or summed."""
    from timm.models import adapt_input_conv

    adapted = dict(state)
    for key, x in state.items():
        if key in own and x.ndim == own[key].ndim == 4 and x.shape[1] == 3 != own[key].shape[1]:
            adapted[key] = adapt_input_conv(own[key].shape[1], x)
    return adapted


def fill(model: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """Load weights, all of them.

    Raises:
        ValueError: If names or shapes differ.
    """
    own = model.state_dict()
    wrong = [key for key in own if key not in state or own[key].shape != state[key].shape]
    if wrong:
        raise ValueError(f"weights {name!r} are of another model: {len(wrong)} tensors don't fit, e.g. {wrong[0]}")
    model.load_state_dict({key: state[key] for key in own})
