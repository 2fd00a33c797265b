import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from semask import Predictor
from semask.builder import build
from semask.checkpoints.saving import save
from semask.checkpoints.sources import load
from semask.commands.export import print_report
from semask.engines.catalog import find
from semask.engines.export import export, output_file, replace_all
from semask.engines.format import Request
from semask.engines.runtime import load_exported
from semask.engines.samples import Inputs, choose_samples, model_input
from semask.files.reading import sha256
from semask.prediction.recipe import recipe_inference
from semask.settings.inference import Inference

onnx = pytest.importorskip("onnx")
LIMIT = 2
"""Percent: a model of eight steps has near-ties in many places."""


@pytest.fixture(scope="module")
def photos(scenes: Path) -> Path:
    return scenes / "images" / "val"


@pytest.fixture(scope="module")
def exported(trained, photos, tmp_path_factory) -> Path:
    """An ONNX file of the trained model; only to be read."""
    out = tmp_path_factory.mktemp("exported") / "model.onnx"
    export(str(trained), images=[str(photos)], out=str(out), limit=LIMIT, license="CC-BY-4.0")
    return out


def masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.array(Image.open(path)) for path in sorted(folder.glob("*[0-9].png"))}


def test_the_report(exported, trained, scenes):
    report = json.loads((exported.parent / "model.onnx.report.json").read_text(encoding="utf-8"))
    weights = trained / "best.safetensors"
    assert report["weights"] == {"file": str(trained), "sha256": sha256(weights), "bytes": weights.stat().st_size}
    assert report["files"] == {"model.onnx": exported.stat().st_size}
    assert (report["passed"], report["limit_percent"]) == (True, LIMIT)
    check = report["check"]
    assert check["sizes"] == [[65, 65], [48, 64], [48, 64], [48, 64]]
    assert check["pixels"] == 65 * 65 + 3 * 48 * 64
    assert report["different_percent"] == pytest.approx(100 * check["different"] / check["pixels"])
    assert 0 < check["mean_difference"] <= check["max_difference"] < 1e-2
    assert report["latency"]["model"] > 0
    assert report["engine"]["engine"].startswith("onnxruntime ")
    assert report["versions"]["torch"] == torch.__version__
    assert report["images"] == str(scenes / "images" / "val")


def test_nothing_else_is_left_in_the_folder(exported):
    assert sorted(path.name for path in exported.parent.iterdir()) == ["model.onnx", "model.onnx.report.json"]


def test_the_file_knows_all_that_using_it_takes(exported, trained):
    model, runtime = load(trained), load_exported(exported)
    assert runtime.metadata["classes"] == model.metadata["classes"]
    assert runtime.metadata["licence"] == "CC-BY-4.0"
    assert runtime.config == model.config
    assert runtime.description["sha256"] == sha256(trained / "best.safetensors")
    for field in ("mean", "std"):
        assert runtime.description[field] == model.config[field]


def test_predict_takes_it(semask, exported, trained, photos, tmp_path):
    semask("predict", trained, photos, "--out", tmp_path / "before", "--confidence")
    semask("predict", exported, photos, "--out", tmp_path / "after", "--confidence")
    before, after = masks(tmp_path / "before"), masks(tmp_path / "after")
    assert len(before) == 3
    assert before.keys() == after.keys()
    assert sum((before[name] != after[name]).mean() for name in before) / 3 < LIMIT / 100
    assert {p.name for p in (tmp_path / "before").iterdir()} == {p.name for p in (tmp_path / "after").iterdir()}
    assert "gives no priors" in semask.refused("predict", exported, photos, "--priors", "--out", tmp_path / "priors")


def test_evaluate_takes_it(semask, exported, trained, scenes, tmp_path):
    for name, weights in {"before": trained, "after": exported}.items():
        semask("evaluate", weights, "--data", scenes, "--out", tmp_path / f"{name}.json", "--workers", 0)
    before, after = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("before", "after"))
    assert after["miou"] == pytest.approx(before["miou"], abs=0.01)
    assert after["overall_accuracy"] == pytest.approx(before["overall_accuracy"], abs=LIMIT / 100)
    assert after["prior_miou"] == []
    assert after["settings"] == before["settings"]
    assert after["weights"]["sha256"] == sha256(exported)
    assert after["weights"]["beside"] == {}
    assert "which data?" in semask.refused("evaluate", exported)


def damaged(monkeypatch) -> None:
    """Let ONNX files come out wrong."""
    from semask.engines.formats import onnx as exporter

    save = exporter.FORMAT.save

    def wrong(request: Request) -> list[Path]:
        twin = copy.deepcopy(request.model)
        for parameter in twin.decoder.parameters():
            nn.init.normal_(parameter)
        return save(replace(request, model=twin))

    monkeypatch.setattr(exporter, "FORMAT", replace(exporter.FORMAT, save=wrong))


def test_a_bad_export_is_not_kept_and_a_good_one_stays(semask, exported, trained, photos, tmp_path, monkeypatch):
    damaged(monkeypatch)
    out = tmp_path / "model.onnx"
    out.write_bytes(exported.read_bytes())
    message = semask.refused("export", trained, "--images", photos, "--out", out, "--limit", 1.5)
    assert message.startswith(f"{out}: not kept, because ")
    assert "% of the labels differ from the model's" in message
    assert "the limit is 1.5 %" in message
    assert out.read_bytes() == exported.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.rejected.json"]
    report = json.loads((tmp_path / "model.onnx.rejected.json").read_text(encoding="utf-8"))
    assert not report["passed"]
    assert f"{report['different_percent']:.3g} %" in message
    monkeypatch.undo()
    semask("export", trained, "--images", photos, "--out", out, "--limit", LIMIT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.report.json"]


def test_a_failing_export_leaves_nothing(semask, exported, trained, photos, tmp_path, monkeypatch):
    from semask.engines.formats import onnx as exporter

    def fail(request: Request) -> list[Path]:
        request.path.write_bytes(b"half")
        raise ValueError("no space")

    monkeypatch.setattr(exporter, "FORMAT", replace(exporter.FORMAT, save=fail))
    out = tmp_path / "model.onnx"
    out.write_bytes(exported.read_bytes())
    assert semask.refused("export", trained, "--images", photos, "--out", out) == "no space"
    assert out.read_bytes() == exported.read_bytes()
    assert list(tmp_path.iterdir()) == [out]


def test_without_images_the_validation_data_of_the_recipe(trained, scenes):
    recipe = load(trained).metadata["recipe"]
    chosen = choose_samples(None, recipe, count=8, channels=3)
    assert {path.parent for path in chosen.images} == {scenes / "images" / "val"}
    assert (len(chosen.images), chosen.synthetic) == (3, False)
    gone = {"data": {**recipe["data"], "root": "/nowhere"}}
    assert choose_samples(None, gone, count=2, channels=3).synthetic


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_synthetic_scenes_stand_in_for_images(channels):
    chosen = choose_samples(None, {}, count=2, channels=channels)
    assert chosen.synthetic
    model = build(
        encoder="swin_nano",
        num_classes=2,
        channels=8,
        in_channels=channels,
        mean=[0.5] * channels,
        std=[0.2] * channels,
    )
    inputs = Inputs(chosen.images, model, Inference(scale=(64, 64)))
    for _ in range(2):  # a calibration may go through them again
        assert [tuple(x.shape) for x in inputs] == [(1, channels, 48, 64)] * 2


def test_the_choice_of_images_is_always_the_same(photos):
    first = choose_samples([str(photos)], {}, count=2, channels=3)
    assert first == choose_samples([str(photos)], {}, count=2, channels=3)
    assert len(set(first.images)) == 2


def test_a_model_sees_what_the_predictor_shows_it():
    model = build("swin_nano", num_classes=2, channels=8)
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    inference = Inference(scale=(60, 40))
    ((x, _),) = Predictor(model, inference)._inputs(image)
    assert model_input(image, model, inference).equal(x)
    window = model_input(image, model, Inference(scale=(60, 40), mode="slide", crop=(20, 30), stride=(10, 10)))
    assert window.equal(x[..., 10:30, 13:43])


def test_a_check_on_synthetic_scenes_says_that_it_is_weak(tmp_path, capsys):
    model = build("swin_nano", num_classes=3, channels=8)
    path = save(tmp_path / "model.safetensors", model, {"recipe": {"evaluation": {"scale": [64, 48]}}})
    report = export(str(path), out=str(tmp_path / "model.onnx"), checks=1, limit=100)
    assert capsys.readouterr() == ("", "")
    print_report(report)
    assert report.remarks[0].startswith("a weak check: synthetic scenes")
    assert "a weak check" in " ".join(capsys.readouterr().out.split())
    assert load_exported(tmp_path / "model.onnx").metadata["licence"] == "unknown"


def test_the_table_says_what_it_counts(trained, photos, tmp_path, capsys):
    """A share of 0 is a file that does the same, not one of which nothing is the same."""
    report = export(str(trained), images=[str(photos)], out=str(tmp_path / "model.onnx"), limit=100)
    print_report(report)
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "% (limit 100)" in line)
    assert row.split("│")[1].strip() == "labels that differ, % (limit 100)"
    assert row.split("│")[3].strip() == f"{report.different_percent:.4f}"


def test_openvino_in_bf16(semask, trained, photos, tmp_path):
    pytest.importorskip("openvino")
    out = tmp_path / "model.xml"
    arguments = ["--format", "openvino", "--precision", "bf16", "--images", photos, "--limit", 5, "--out", out]
    semask("export", trained, *arguments)
    assert {path.name for path in tmp_path.iterdir()} == {"model.xml", "model.bin", "model.xml.report.json"}
    report = json.loads((tmp_path / "model.xml.report.json").read_text(encoding="utf-8"))
    assert report["files"] == {name: (tmp_path / name).stat().st_size for name in ("model.xml", "model.bin")}
    assert report["engine"]["computes in"] in ("bf16", "f32")
    semask("predict", out, photos, "--out", tmp_path / "masks")
    assert len(masks(tmp_path / "masks")) == 3


def test_a_torch_program_has_to_be_trusted(semask, trained, photos, tmp_path):
    out = tmp_path / "model.pt2"
    semask("export", trained, "--format", "torch", "--images", photos, "--limit", LIMIT, "--out", out)
    assert "pickled Python objects" in semask.refused("predict", out, photos, "--out", tmp_path / "masks")
    semask("predict", out, photos, "--trust", "--out", tmp_path / "masks")
    assert len(masks(tmp_path / "masks")) == 3


def test_what_a_format_can_t_hold_is_one_line(semask, trained, photos, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Could not guard on data-dependent expression\nCaused by: ...")

    onnx_row = find("onnx")
    monkeypatch.setattr("semask.engines.formats.onnx.FORMAT", replace(onnx_row, save=fail))
    message = semask.refused("export", trained, "--images", photos, "--out", tmp_path / "model.onnx")
    assert message == (
        "this model can't be exported as onnx (Could not guard on data-dependent expression): use another format"
    )


def test_mask_decoders(photos, tmp_path):
    model = build("swin_nano", "maskformer", num_classes=3, channels=32, queries=5, decoder_layers=1)
    path = save(tmp_path / "model.safetensors", model, {"recipe": {"evaluation": {"scale": [64, 48]}}})
    report = export(str(path), images=[str(photos)], out=str(tmp_path / "model.onnx"), limit=100)
    assert report.check.max_difference < 1e-3
    assert report.check.largest_lead < 1e-3  # an untrained model has near-ties only
    runtime = load_exported(tmp_path / "model.onnx")
    assert runtime.makes_masks
    assert Predictor(runtime)(next(photos.iterdir())).confidence.shape == (48, 64)


def test_int8_is_calibrated_on_images_only(semask, tmp_path):
    path = save(tmp_path / "model.safetensors", build("swin_nano", num_classes=3, channels=8), {})
    message = semask.refused("export", path, "--precision", "int8", "--out", tmp_path / "model.onnx")
    assert message == "int8 is calibrated on images like those it will see: give some with --images"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "model.xml"], "model.xml: onnx files end in .onnx"),
        (["--format", "openvino", "--out", "model.onnx"], "model.onnx: openvino files end in .xml"),
        (["--format", "torch", "--out", "model.aoti.pt2"], "torch files end in .pt2"),
        (["--out", ".onnx"], "onnx files end in .onnx"),
        (["--limit", "101"], "limit 101"),
        (["--checks", "0"], "checks 0"),
        (["--samples", "0"], "samples 0"),
        (["--images", "nowhere/*.jpg"], "nowhere/*.jpg: no image there"),
        (["--format", "coreml"], "coreml"),
        (["--precision", "int4"], "int4"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_mistakes(semask, trained, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in semask.refused("export", trained, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_not_named_is_not_replaced(semask, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.onnx").write_text("mine")
    assert semask.refused("export", trained).startswith("run.onnx: already exists; pass --overwrite to replace it")
    assert Path("run.onnx").read_text() == "mine"
    semask("export", trained, "--overwrite", "--checks", 1, "--limit", LIMIT)
    assert load_exported("run.onnx").config["num_classes"] == 11


def test_how_images_are_put_through_is_written_into_the_file(trained, photos, tmp_path):
    """What is given replaces the recipe's settings: in the check, in the file, and in what predicts with it."""
    out, said = tmp_path / "model.onnx", []
    export(trained, images=[str(photos)], out=out, limit=100, inference={"scale": (40, 30)}, tell=said.append)
    runtime = load_exported(out)
    assert recipe_inference(runtime) == replace(recipe_inference(load(trained)), scale=(40, 30))
    report = json.loads((tmp_path / "model.onnx.report.json").read_text(encoding="utf-8"))
    assert report["check"]["sizes"][1:] == [[30, 40]] * 3
    assert report["latency"]["size"] == [30, 40]
    assert said == [f"Exporting {trained} as onnx, fp32 ...", f"Comparing it with the model on {photos} ..."]
    with pytest.raises(ValueError, match="inference"):
        export(trained, images=[str(photos)], out=out, inference={"mode": "sideways"})


@pytest.mark.parametrize(
    ("format", "name", "companion"),
    [
        ("openvino", "a.xml", "a.bin"),
        ("openvino", "a.xml", "a.xml.report.json"),
        ("onnx", "a.onnx", "a.onnx.data"),
        ("tensorrt", "a.engine", "a.engine.json"),
    ],
)
def test_nor_is_one_next_to_it(format, name, companion, tmp_path):
    (tmp_path / companion).write_text("mine")
    with pytest.raises(ValueError, match=f"{companion}: would be replaced"):
        output_file("run", find(format), str(tmp_path / name))
    (tmp_path / name).touch()  # an earlier export
    assert output_file("run", find(format), str(tmp_path / name)) == tmp_path / name


def test_names(tmp_path):
    assert output_file("runs/best.safetensors", find("onnx"), None) == Path("best.onnx")
    assert output_file(str(tmp_path), find("tensorrt"), None) == Path(f"{tmp_path.name}.engine")
    assert output_file("owner/name", find("openvino"), None) == Path("name.xml")
    assert output_file("semask-tiny-fpn-ade20k", find("torch"), None) == Path("semask-tiny-fpn-ade20k.pt2")


def test_a_folder_that_cannot_be_written(semask, trained, photos, tmp_path):
    (tmp_path / "file").touch()
    message = semask.refused("export", trained, "--images", photos, "--out", tmp_path / "file" / "model.onnx")
    assert "could not be written" in message


def test_all_files_are_replaced_or_none(tmp_path):
    drafts, place = tmp_path / "drafts", tmp_path / "place"
    for folder, text in ((drafts, "new"), (place, "old")):
        folder.mkdir()
        for name in ("a", "b"):
            (folder / name).write_text(text)
    (drafts / "c").write_text("new")
    (place / "c").mkdir()
    (place / "c" / "precious").touch()
    with pytest.raises(OSError, match="is a folder"):
        replace_all([drafts / name for name in "abc"], place)
    assert [(place / name).read_text() for name in "ab"] == ["old", "old"]
    assert (place / "c" / "precious").exists()


def test_all_files_are_replaced(tmp_path):
    drafts, place = tmp_path / "drafts", tmp_path / "place"
    for folder, names in ((drafts, "abc"), (place, "ab")):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(folder.name)
    replace_all([drafts / name for name in "abc"], place)
    assert {path.name: path.read_text() for path in place.iterdir()} == dict.fromkeys("abc", "drafts")
