"""What docs/backbones.md says of each backbone is what these tests find; SEMASK_WRITE_DOCS=1 writes it there."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PvtConfig, PvtModel, PvtV2Config, PvtV2Model

from semask.encoders.backbone import LibraryBackbone
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.library import attach, library_backbone

DOCS = Path(__file__).parents[2] / "docs" / "backbones.md"
HEAD = ("backbone", "family", "channels", "strides", "images", "`torch.compile`")
FAULTS = (AssertionError, RuntimeError, IndexError)
ODD, SMALL, OBLONG = (333, 517), (64, 64), (128, 160)
ANY, MULTIPLES, ONE = "any size", "multiples of 32", "one size, `img_size`"

MODELS: dict[str, tuple[str, str]] = {
    "timm/swin_tiny_patch4_window7_224": ("Swin", ANY),
    "timm/swin_s3_tiny_224": ("Swin-S3", ANY),
    "timm/swinv2_tiny_window8_256": ("Swin V2", ANY),
    "timm/swinv2_cr_tiny_ns_224": ("Swin V2 (CR)", ANY),
    "timm/pvt_v2_b0": ("PVTv2", ANY),
    "timm/twins_svt_small": ("Twins-SVT", ANY),
    "timm/twins_pcpvt_small": ("Twins-PCPVT", ANY),
    "timm/maxvit_rmlp_pico_rw_256": ("MaxViT", ONE),
    "timm/coatnet_nano_rw_224": ("CoAtNet", ONE),
    "timm/hiera_tiny_224": ("Hiera", ONE),
    "timm/hieradet_small": ("Hiera of SAM 2", MULTIPLES),
    "timm/mvitv2_tiny": ("MViTv2", ONE),
    "timm/davit_tiny": ("DaViT", ANY),
    "timm/focalnet_tiny_srf": ("FocalNet", ANY),
    "timm/nextvit_small": ("NextViT", ANY),
    "timm/caformer_s18": ("CAFormer", ANY),
    "timm/poolformerv2_s12": ("PoolFormer", ANY),
    "timm/efficientvit_b0": ("EfficientViT (MIT)", ANY),
    "timm/efficientvit_m0": ("EfficientViT (MSRA)", ANY),
    "timm/fastvit_t8": ("FastViT", ANY),
    "timm/tiny_vit_5m_224": ("TinyViT", ANY),
    "timm/convnext_atto": ("ConvNeXt", ANY),
    "timm/convnextv2_atto": ("ConvNeXt V2", ANY),
    "timm/convnext_tiny.dinov3_lvd1689m": ("ConvNeXt of DINOv3", ANY),
    "timm/resnet18": ("ResNet", ANY),
    "timm/res2net50d": ("Res2Net", ANY),
    "timm/regnety_002": ("RegNet", ANY),
    "timm/densenet121": ("DenseNet", ANY),
    "timm/rdnet_tiny": ("RDNet", ANY),
    "timm/mambaout_femto": ("MambaOut", ANY),
    "timm/edgenext_xx_small": ("EdgeNeXt", ANY),
    "timm/inception_next_atto": ("InceptionNeXt", ANY),
    "timm/gcvit_xxtiny": ("GCViT", ONE),
    "timm/coat_lite_tiny": ("CoaT-Lite", ONE),
    "timm/nest_tiny": ("NesT", ONE),
    "timm/swiftformer_xs": ("SwiftFormer", ANY),
    "timm/mobilevitv2_050": ("MobileViT V2", ANY),
    "timm/repvit_m0_9": ("RepViT", ANY),
    "timm/shvit_s1": ("SHViT", ANY),
    "timm/efficientnet_b0": ("EfficientNet", ANY),
    "timm/mobilenetv3_small_050": ("MobileNetV3", ANY),
    "timm/mobilenetv4_conv_small": ("MobileNetV4", ANY),
    "timm/efficientformerv2_s0": ("EfficientFormer V2", ONE),
    "timm/hgnetv2_b0": ("HGNet V2", ANY),
    "timm/starnet_s1": ("StarNet", ANY),
    "timm/csatv2": ("CSATv2", MULTIPLES),
    "transformers/mit_b0": ("Mix Transformer", ANY),
    "transformers/mit_b1": ("Mix Transformer", ANY),
    "transformers/mit_b2": ("Mix Transformer", ANY),
    "transformers/mit_b3": ("Mix Transformer", ANY),
    "transformers/mit_b4": ("Mix Transformer", ANY),
    "transformers/mit_b5": ("Mix Transformer", ANY),
    "PvtModel": ("PVT (`attach`)", ONE),
    "PvtV2Model": ("PVTv2 (`attach`)", ANY),
    "timm/vit_tiny_patch16_224": ("plain ViT", ANY),
    "timm/eva02_tiny_patch14_224": ("plain ViT: EVA-02", ANY),
    "timm/vit_small_patch14_dinov2": ("plain ViT: DINOv2", ANY),
    "timm/vit_small_patch16_dinov3": ("plain ViT: DINOv3", ANY),
}
"""Backbone, its family, and the images that it takes."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(name: str, *, side: int | None = None) -> SemanticEncoder:
    """Semantic layers that leave what the backbone computes as it is; `side` is for backbones of one size."""
    if name == "PvtModel":
        return attach(PvtModel(PvtConfig(image_size=side or 224)), num_classes=5).eval()
    if name == "PvtV2Model":
        return attach(PvtV2Model(PvtV2Config()), num_classes=5).eval()
    options = {"img_size": side} if side else {}
    return attach(library_backbone(name, options=options), num_classes=5).eval()


def own(backbone: LibraryBackbone, image: Tensor) -> list[Tensor]:
    """The features that the library itself gives, one a stage, [B, C, h, w]."""
    model: Any = backbone.model
    if hasattr(model, "config"):
        return own_of_transformers(model, image)[-len(backbone.channels) :]
    if hasattr(model, "return_layers") or type(model).__name__.endswith("Features"):
        maps = model(image)
        if str(getattr(model, "output_fmt", "")).endswith("NHWC"):
            maps = [x.permute(0, 3, 1, 2) for x in maps]
    else:
        ends: Any = 4
        if backbone.plain:
            ends = [len(model.blocks) * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
        maps = model.forward_intermediates(image, indices=ends, intermediates_only=True)
    return list(maps[-len(backbone.channels) :])


def own_of_transformers(model: Any, image: Tensor) -> list[Tensor]:
    states = model(image, output_hidden_states=True).hidden_states
    if not isinstance(model, PvtModel):
        return list(states)
    # The states of PVT are tokens after each block, in the last stage behind a class token.
    ends = torch.tensor(model.config.depths).cumsum(0) - 1
    tokens = [states[end] for end in ends.tolist()]
    tokens[-1] = tokens[-1][:, 1:]
    sides = [image.shape[-1] // stride for stride in (4, 8, 16, 32)]
    return [x.transpose(1, 2).unflatten(2, (side, side)) for x, side in zip(tokens, sides, strict=True)]


def image_for(encoder: SemanticEncoder, size: tuple[int, int]) -> Tensor:
    """A random image, padded as `SeMask` does."""
    divisor = encoder.backbone.size_divisor
    return F.pad(torch.randn(1, 3, *size), (0, -size[1] % divisor, 0, -size[0] % divisor))


def takes(encoder: SemanticEncoder, size: tuple[int, int]) -> bool:
    """Whether a fresh encoder takes images of a size; if so it gives what the library gives, else the library fails."""
    image = image_for(encoder, size)
    with torch.no_grad():
        try:
            expected = own(encoder.backbone, image)
        except FAULTS:
            message = rf"does not take images of {image.shape[-2]} x {image.shape[-1]} \(.*cut images"
            with pytest.raises(ValueError, match=message) as e:
                encoder(image)
            assert "\n" not in str(e.value)
            return False
        maps, priors = encoder(image)
        assert [prior.shape[-2:] for prior in priors] == [x.shape[-2:] for x in expected]
        if encoder.pyramid is not None:
            expected = encoder.pyramid([x.contiguous(memory_format=torch.channels_last) for x in expected])
        assert all(map_.equal(x) for map_, x in zip(maps, expected, strict=True))
        assert all(map_.isfinite().all() for map_ in maps)
    return True


def check_gradients(encoder: SemanticEncoder, size: tuple[int, int]) -> None:
    """What the last map and the priors say reaches every semantic parameter, through all stages."""
    for layer in encoder.semantic_layers:
        nn.init.constant_(layer.attentions[0].scale, 0.5)
    maps, priors = encoder(image_for(encoder, size))
    (maps[-1].square().mean() + sum(prior.square().mean() for prior in priors)).backward()
    for name, parameter in encoder.semantic_layers.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A softmax does not see what is added to all keys alike.
        assert parameter.grad.any() or name.endswith("semantic_key.bias"), name


@pytest.mark.parametrize("name", MODELS)
def test_backbone(name):
    family, images = MODELS[name]
    encoder = build(name, side=SMALL[0] if images == ONE else None)
    backbone = encoder.backbone
    # Of a map of one cell the attention learns nothing.
    size = OBLONG if images == MULTIPLES or backbone.strides[-1] > 32 else SMALL
    assert takes(encoder, size)
    assert takes(encoder, ODD) == (images == ANY)
    if images == ANY and backbone.size_divisor > 1:
        images = f"{ANY}, padded to {backbone.size_divisor}"
    found = [name, family, join(backbone.channels), join(encoder.strides), images]
    assert row(name, found) == found
    check_gradients(encoder, size)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_compiled(name):
    torch.compiler.reset()
    encoder = build(name)
    image = torch.randn(1, 3, *([native_side(name)] * 2))
    assert takes(encoder, tuple(image.shape[-2:]))
    with torch.no_grad():
        expected = encoder(image).maps
        try:
            compiled = torch.compile(encoder, backend="aot_eager", fullgraph=True)(image).maps
        except (torch._dynamo.exc.TorchDynamoException, RuntimeError) as error:
            found = f"graph breaks ({type(error).__name__})"
        else:
            found = "one graph"
            for x, y in zip(compiled, expected, strict=True):
                torch.testing.assert_close(x, y, atol=1e-4, rtol=1e-4)
    assert row(name, [found], start=len(HEAD) - 1)[-1] == found


def native_side(name: str) -> int:
    """Side of the images that a model was made for."""
    if not name.startswith("timm/"):
        return 224
    import timm

    return int(timm.get_pretrained_cfg(name.removeprefix("timm/")).input_size[-1])


def join(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))


def table() -> dict[str, list[str]]:
    """Rows of the table in the docs, by backbone."""
    lines = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {cells[0].strip("`"): [cells[0].strip("`"), *cells[1:]] for cells in rows if len(cells) == len(HEAD)}


def row(name: str, found: list[str], *, start: int = 0) -> list[str]:
    """Cells of the docs, as many as were found; with SEMASK_WRITE_DOCS those are written first."""
    if os.environ.get("SEMASK_WRITE_DOCS"):
        rows = table()
        cells = rows.get(name, [name, *["?"] * (len(HEAD) - 1)])
        cells[start : start + len(found)] = found
        rows[name] = cells
        write({model: rows[model] for model in MODELS if model in rows})
    return table()[name][start : start + len(found)]


def write(rows: dict[str, list[str]]) -> None:
    """Put rows in place of the docs' table."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| `{name}` | {' | '.join(cells[1:])} |" for name, cells in rows.items()]
    before, _, rest = DOCS.read_text(encoding="utf-8").partition("<!-- table -->\n")
    after = rest.partition("<!-- end of table -->")[2]
    text = "\n".join([f"{before}<!-- table -->", *lines, f"<!-- end of table -->{after}"])
    DOCS.write_text(text, encoding="utf-8")


def test_table_is_of_these_models():
    assert list(table()) == list(MODELS)
    assert sum(name.startswith("timm/") for name in MODELS) >= 40
    assert not [cells for cells in table().values() if "?" in cells]
