import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from semask.builder import build
from semask.checkpoints.hub import save_pretrained
from semask.checkpoints.names import microsoft_name, timm_name
from semask.checkpoints.pretrained import load_pretrained
from semask.encoders.swin import Swin, SwinSize

SMALL = SwinSize(8, (1, 2), (1, 2), 3, 0.0)
NAMES = {microsoft_name: "microsoft", timm_name: "timm"}


def source(rename, size=SMALL, *, in_channels: int = 3) -> tuple[Swin, dict[str, torch.Tensor]]:
    """A Swin with values of its own, and its tensors in the layout of an ImageNet file."""
    torch.manual_seed(1)
    swin = Swin(size, in_channels=in_channels)
    for parameter in swin.parameters():
        nn.init.normal_(parameter)
    tensors = {rename(name): x.contiguous() for name, x in swin.state_dict().items()}
    extra = {"norm.weight": torch.ones(16), "head.weight": torch.ones(2, 16)}
    buffers = {"layers.1.blocks.1.attn_mask": torch.ones(4), "layers.0.blocks.0.attn.relative_position_index": index()}
    return swin, {**tensors, **extra, **buffers}


def around(swin: nn.Module) -> nn.Module:
    """The part of a SeMask that holds a backbone."""
    model = nn.Module()
    model.encoder = nn.Module()
    model.encoder.backbone = swin
    return model


def index() -> torch.Tensor:
    return torch.zeros(9, 9, dtype=torch.long)


def write(path, tensors) -> str:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"model": tensors, "epoch": 300}, path)
    return str(path)


@pytest.mark.parametrize("rename", NAMES, ids=NAMES.get)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_layouts(tmp_path, rename, suffix):
    expected, tensors = source(rename)
    swin = Swin(SMALL)
    report = load_pretrained(around(swin), write(tmp_path / f"weights{suffix}", tensors))
    assert all(x.equal(expected.state_dict()[name]) for name, x in swin.state_dict().items())
    assert report.loaded == list(around(swin).state_dict())
    assert report.resized == report.fresh == []
    assert sorted(report.unused) == ["head.weight", "norm.weight"]
    assert str(report).startswith(f"{len(report.loaded)} loaded, 0 resized, 0 fresh, 2 unused")


@pytest.mark.parametrize(
    ("ours", "microsoft", "timm"),
    [
        ("stem.projection.weight", "patch_embed.proj.weight", "patch_embed.proj.weight"),
        ("stages.1.merge.norm.bias", "layers.0.downsample.norm.bias", "layers.1.downsample.norm.bias"),
        (
            "stages.0.blocks.1.attention.projection.weight",
            "layers.0.blocks.1.attn.proj.weight",
            "layers.0.blocks.1.attn.proj.weight",
        ),
        ("stages.3.blocks.0.mlp.2.bias", "layers.3.blocks.0.mlp.fc2.bias", "layers.3.blocks.0.mlp.fc2.bias"),
    ],
)
def test_names(ours, microsoft, timm):
    assert microsoft_name(ours) == microsoft
    assert timm_name(ours) == timm


@pytest.mark.parametrize("window", [2, 5])
def test_tables_of_another_window_are_resized(tmp_path, window):
    _, tensors = source(microsoft_name)
    table = "layers.1.blocks.0.attn.relative_position_bias_table"
    ramp = torch.arange(-2.0, 3.0).repeat(5, 1)  # by the column of the offset
    tensors[table] = torch.stack([torch.full((25,), 7.0), ramp.flatten()], dim=1)
    swin = Swin(SMALL._replace(window=window))
    report = load_pretrained(around(swin), write(tmp_path / "weights.safetensors", tensors))
    resized = swin.stages[1].blocks[0].attention.relative_position_bias_table
    side = 2 * window - 1
    assert resized.shape == (side**2, 2)
    torch.testing.assert_close(resized[:, 0], torch.full((side**2,), 7.0))
    columns = resized[:, 1].view(side, side)
    torch.testing.assert_close(columns, columns[:1].expand(side, side))
    assert (columns[0].diff() > 0).all()
    torch.testing.assert_close(columns[0], -columns[0].flip(0), atol=1e-5, rtol=0)
    assert report.resized == [name for name in around(swin).state_dict() if name.endswith("bias_table")]


def test_first_convolution_of_other_bands(tmp_path):
    rgb, tensors = source(timm_name)
    path = write(tmp_path / "weights.safetensors", tensors)
    gray = Swin(SMALL, in_channels=1)
    report = load_pretrained(around(gray), path)
    assert report.resized == ["encoder.backbone.stem.projection.weight"]
    image = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(gray.stem(image), rgb.stem(image.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)
    four = Swin(SMALL, in_channels=4)
    assert load_pretrained(around(four), path).resized == ["encoder.backbone.stem.projection.weight"]
    weight, reference = four.stem.projection.weight, rgb.stem.projection.weight
    torch.testing.assert_close(weight[:, :3] / reference, torch.full_like(reference, 3 / 4))


def test_missing_tensors_are_reported_and_left(tmp_path):
    _, tensors = source(timm_name)
    del tensors["patch_embed.norm.bias"]
    swin = Swin(SMALL)
    report = load_pretrained(around(swin), write(tmp_path / "weights.safetensors", tensors))
    assert report.fresh == ["encoder.backbone.stem.norm.bias"]
    assert "fresh: encoder.backbone.stem.norm.bias" in str(report)
    assert swin.stem.norm.bias.eq(0).all()


@pytest.mark.parametrize("size", [SMALL._replace(channels=16), SMALL._replace(heads=(2, 4))])
def test_weights_of_another_size(tmp_path, size):
    path = write(tmp_path / "weights.safetensors", source(microsoft_name, size)[1])
    with pytest.raises(ValueError, match=r"weights of another model, \S+ is \[.*\] there and \[.*\] here"):
        load_pretrained(around(Swin(SMALL)), path)


@pytest.mark.parametrize(("theirs", "ours"), [(2, 3), (3, 2)])
def test_weights_of_another_depth(tmp_path, theirs, ours):
    path = write(tmp_path / "weights.safetensors", source(microsoft_name, SMALL._replace(depths=(1, theirs)))[1])
    with pytest.raises(ValueError, match=r"of another depth, \S+blocks\.2\S+ has no counterpart"):
        load_pretrained(around(Swin(SMALL._replace(depths=(1, ours)))), path)


class Evil:
    def __init__(self, marker) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_code_in_a_file_is_never_run(tmp_path, archive, suffix):
    path, marker = tmp_path / f"evil{suffix}", tmp_path / "ran"
    content = {"model": {"patch_embed.norm.weight": torch.ones(8), "more": Evil(marker)}}
    if archive:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ValueError, match=f"evil{suffix}") as caught:
        load_pretrained(around(Swin(SMALL)), str(path))
    assert not marker.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_truncated_file(tmp_path, suffix, kept):
    path = tmp_path / f"weights{suffix}"
    write(path, source(timm_name)[1])
    size = path.stat().st_size
    os.truncate(path, int(kept * size) if kept < 1 else kept)
    with pytest.raises(ValueError, match=f"weights{suffix}: ") as caught:
        load_pretrained(around(Swin(SMALL)), str(path))
    assert "\n" not in str(caught.value)


def test_other_faults(tmp_path):
    swin = Swin(SMALL)
    with pytest.raises(ValueError, match=r"nowhere\.pth: no such file"):
        load_pretrained(around(swin), str(tmp_path / "nowhere.pth"))
    with pytest.raises(ValueError, match=r"'swin_imaginary': neither a file, nor .* nor a model that timm .* knows"):
        load_pretrained(around(swin), "swin_imaginary")
    with pytest.raises(
        ValueError,
        match=r"resnet\.safetensors: no known names of tensors in it \(found e\.g\. fc\.weight\): give a ",
    ):
        load_pretrained(around(swin), write(tmp_path / "resnet.safetensors", {"fc.weight": torch.ones(2)}))
    with pytest.raises(ValueError, match=r"numbers\.pth: no tensors in it"):
        load_pretrained(around(swin), write(tmp_path / "numbers.pth", {"epoch": 3}))
    with pytest.raises(ValueError, match="are for Swin backbones, this one is a Linear"):
        load_pretrained(around(nn.Linear(2, 2)), "swin_tiny_patch4_window7_224")


@pytest.mark.parametrize("name", ["best.safetensors", "model.safetensors", "last.safetensors", "pytorch_model.bin"])
def test_folders(tmp_path, name):
    source = build("swin_nano", num_classes=3, channels=8)
    save_pretrained(source, tmp_path / "saved")
    if name == "pytorch_model.bin":
        torch.save(source.state_dict(), tmp_path / "saved" / name)
        (tmp_path / "saved" / "model.safetensors").unlink()
    else:
        (tmp_path / "saved" / "model.safetensors").rename(tmp_path / "saved" / name)
    model = build("swin_nano", num_classes=3, channels=8)
    report = load_pretrained(model, str(tmp_path / "saved"))
    assert not report.fresh
    assert all(x.equal(source.state_dict()[key]) for key, x in model.state_dict().items())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no best.safetensors or .* in this folder: give a file of weights"):
        load_pretrained(model, str(tmp_path / "empty"))


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"could not download 'swin_tiny_patch4_window7_224\.ms_in1k' \(.*\): check"):
        load_pretrained(around(Swin(SMALL)), "swin_tiny_patch4_window7_224.ms_in1k")
