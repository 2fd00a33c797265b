import subprocess
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.ops import StochasticDepth

from semask.builder import build
from semask.checkpoints.pretrained import load_pretrained
from semask.encoders.swin import (
    SIZES,
    DropPath,
    Swin,
    SwinSize,
    WindowAttention,
    relative_position_index,
    shift_masks,
    window_kinds,
)

SMALL = SwinSize(8, (1, 2, 1, 2), (1, 2, 2, 4), 3, 0.2)


def run(swin: Swin, image: torch.Tensor) -> list[torch.Tensor]:
    maps = [swin.stem(image)]
    for stage in swin.stages:
        maps.append(stage(maps[-1]))
    return maps[1:]


@pytest.mark.parametrize("height", range(1, 41))
def test_any_size(height):
    width = 41 - height
    for stride, channels, x in zip(
        (4, 8, 16, 32), (8, 16, 32, 64), run(Swin(SMALL), torch.randn(1, 3, height, width)), strict=True
    ):
        assert x.shape == (1, -(-height // stride), -(-width // stride), channels)
        assert x.isfinite().all()


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name):
    with torch.device("meta"):
        swin = Swin(SIZES[name]).to("meta")  # what does not come from files has values even there
    assert [len(stage.blocks) for stage in swin.stages] == list(SIZES[name].depths)
    assert [x.shape[-1] for x in run(swin, torch.empty(1, 3, 64, 64, device="meta"))] == list(swin.channels)


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_bands(channels):
    swin, image = Swin(SMALL, in_channels=channels), torch.randn(1, channels, 20, 20)
    before = run(swin.eval(), image)[-1]
    image[:, -1] += 1
    assert not torch.allclose(run(swin, image)[-1], before)


def test_equals_timm_where_both_agree(tmp_path):
    reference = timm.create_model(
        "swin_tiny_patch4_window7_224", pretrained=False, strict_img_size=False, always_partition=True
    ).eval()
    for name, parameter in reference.named_parameters():
        if name.endswith(("bias_table", "bias")):
            nn.init.normal_(parameter, std=0.5)
    save_file({name: x.contiguous() for name, x in reference.state_dict().items()}, tmp_path / "timm.safetensors")
    model = build("swin_tiny", semantic_depths=0).eval()
    report, swin = load_pretrained(model, str(tmp_path / "timm.safetensors")), model.encoder.backbone
    assert not [name for name in report.fresh if name.startswith("encoder.backbone.")]
    assert not report.resized
    assert {name.split(".")[0] for name in report.unused} == {"norm", "head"}
    image = torch.randn(1, 3, 224, 224)  # maps of 56, 28, 14 and 7 cells: whole windows
    with torch.no_grad():
        expected = reference.patch_embed(image)
        for stage, ours in zip(reference.layers, run(swin, image), strict=True):
            expected = stage(expected)
            torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("size", "window"), [((8, 8), 4), ((4, 12), 4), ((14, 7), 7), ((3, 6), 3)])
def test_shift_masks_part_what_the_roll_brought_together(size, window):
    shift, across = window // 2, size[1] // window
    kinds = window_kinds(size[0] // window, across, torch.device("cpu"))
    for n, scores in enumerate(shift_masks(window, shift)[kinds]):
        for a in range(window * window):
            for b in range(window * window):
                cells = [(n // across * window + i // window, n % across * window + i % window) for i in (a, b)]
                wrapped = [tuple(x >= length - shift for x, length in zip(cell, size, strict=True)) for cell in cells]
                assert scores[a, b] == (0 if wrapped[0] == wrapped[1] else -100)


@pytest.mark.parametrize("size", [(8, 8), (7, 8), (7, 7)])
@pytest.mark.parametrize(
    ("cell", "rows", "columns"),
    [((0, 0), (0, 2), (0, 2)), ((3, 4), (2, 6), (2, 6)), ((6, 6), (6, 8), (6, 8)), ((0, 3), (0, 2), (2, 6))],
)
def test_a_cell_matters_in_its_shifted_window_only(size, cell, rows, columns):
    attention = WindowAttention(8, heads=2, window=4, shift=2).double()
    x = torch.randn(1, *size, 8).double()
    y = x.clone()
    y[:, *cell] += 1
    differs = (attention(x) - attention(y)).abs().amax(-1)[0] > 1e-12
    expected = torch.zeros_like(differs)
    expected[slice(*rows), slice(*columns)] = True
    assert differs.equal(expected)


def test_relative_position_index():
    index = relative_position_index(3)
    offsets = {}
    for a in range(9):
        for b in range(9):
            offset = (a // 3 - b // 3, a % 3 - b % 3)
            assert offsets.setdefault(offset, int(index[a, b])) == index[a, b]
    assert sorted(offsets.values()) == list(range(25))


def test_position_bias_tells_directions_apart():
    attention = WindowAttention(8, heads=2, window=3, shift=0)
    x = torch.randn(1, 3, 3, 8)
    nn.init.zeros_(attention.relative_position_bias_table)
    torch.testing.assert_close(attention(x.flip(1)), attention(x).flip(1))
    nn.init.normal_(attention.relative_position_bias_table)
    assert not torch.allclose(attention(x.flip(1)), attention(x).flip(1), atol=1e-3)


def test_gradient_checkpointing_computes_the_same():
    gradients, passes = [], []
    for checkpointing in (False, True):
        torch.manual_seed(1)
        swin = Swin(SMALL).double().train()  # with stochastic depth
        count = [0]
        for stage in swin.stages:
            stage.checkpointing = checkpointing
            for block in stage.blocks:
                block.norm1.register_forward_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        sum(x.sin().sum() for x in run(swin, torch.randn(4, 3, 40, 40).double())).backward()
        gradients.append([parameter.grad for parameter in swin.parameters()])
        passes.append(count[0])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert passes == [6, 12]


def test_stochastic_depth_rises_linearly():
    rates = [block.drop_path.p for stage in Swin(SMALL).stages for block in stage.blocks]
    assert rates == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(6, 5), (6, 3, 4, 2)])
def test_drop_path_draws_as_torchvision_does(p, shape):
    x = torch.randn(shape)
    results = []
    for layer in (DropPath(p), StochasticDepth(p, mode="row")):
        torch.manual_seed(3)
        results.append(layer.train()(x))
        assert layer.eval()(x) is x
    assert results[0].equal(results[1])


def test_importing_swin_loads_no_compiler():
    code = (
        "import sys, semask.encoders.swin; print([m for m in ('torch._dynamo', 'torchvision.ops') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
