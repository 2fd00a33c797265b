"""Names from strangers - of classes, files and folders - are shown as text, whatever they hold."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask import save
from semask.builder import build

NAMES = ["[/b]", "[red]sky[/red]", ":smile:", "{0}", "%s", "<script>alert(1)</script>", "[link=http://x]y[/link]"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three images with classes of impossible names, in a folder of such a name."""
    root = tmp_path / "[bold]data[/]"
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(2):
            name = f"[i]{split}{number}[b]"
            pixels = rng.integers(0, 255, (40, 48, 3)).astype(np.uint8)
            mask = np.arange(40 * 48).reshape(40, 48).astype(np.uint8) % len(NAMES)
            for kind, array, ending in (("images", pixels, "jpg"), ("annotations", mask, "png")):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(root / kind / split / f"{name}.{ending}")
    (root / "classes.json").write_text(json.dumps({"name": "[/data]", "classes": NAMES}))
    return root


def test_train_evaluate_and_predict(semask, recipe, data, tmp_path):
    out = tmp_path / "[/run]"
    settings = {"data.root": data, "model.num_classes": len(NAMES), "steps": 2}
    semask(*recipe(out, **settings))
    printed = semask("evaluate", out, "--data", data, "--workers", 0, "--out", tmp_path / "report.json").out
    for name in NAMES:
        assert name[:8] in printed
    assert (tmp_path / "report.json").is_file()
    done = semask("predict", out, data / "images" / "val", "--out", tmp_path / "[/masks]")
    assert "[/masks]" in "".join(done.err.split())
    assert len(list((tmp_path / "[/masks]").glob("*_overlay.jpg"))) == 2
    photo = next((data / "images" / "val").iterdir())
    assert "[/pages]" in "".join(semask("explain", out, photo, "--out", tmp_path / "[/pages]").out.split())
    (page,) = (tmp_path / "[/pages]").glob("*.html")
    assert "<script>alert" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["x\x1b[2J", "x\x07", "x\x9b31m", "x\u202ey", "x\r\ny"])
def test_control_characters_never_reach_the_terminal(semask, tmp_path, name):
    for arguments in (
        ["predict", tmp_path / f"{name}.safetensors", tmp_path / "a.jpg"],
        ["explain", tmp_path / f"{name}.safetensors", tmp_path / "a.jpg"],
        ["explain", tmp_path / f"{name}.jpg"],
        ["explain", name],
        ["evaluate", tmp_path / name, "--data", tmp_path / name],
        ["info", tmp_path / f"{name}.yaml"],
        ["export", tmp_path / f"{name}.safetensors"],
        ["convert", tmp_path / f"{name}.pth"],
        ["train", "--config", tmp_path / f"{name}.yaml", "--data.root", name, "--out", name],
        ["train", "--data.root", tmp_path / name, "--out", tmp_path / "run"],
    ):
        (tmp_path / "a.jpg").touch()
        assert semask.refused(*arguments).isprintable()


def test_a_checkpoint_whose_classes_are_called_like_commands_of_a_terminal(semask, tmp_path):
    model = build("swin_nano", num_classes=2, channels=8)
    path = save(tmp_path / "x.safetensors", model, {"licence": "\x1b[2J", "published": None})
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    printed = semask("predict", path, tmp_path / "a.png", "--out", tmp_path / "out")
    assert "\x1b[2J" not in printed.out + printed.err
    with pytest.raises(ValueError, match="class name"):
        save(path, model, {"classes": {"classes": ["a\x1b[2J", "b"]}})
