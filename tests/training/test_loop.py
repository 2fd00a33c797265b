import csv
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from states import read_whole
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch._dynamo.utils import counters
from uneven import STEPS, compare_runs, train_uneven, write_uneven

from semask.acceleration.accelerate import accelerate
from semask.acceleration.cross_entropy import accelerate_loss
from semask.builder import build
from semask.checkpoints.sources import load
from semask.data.loader import training_loader
from semask.data.normalization import Normalization
from semask.data.source import Data
from semask.data.transforms import Augmentation, training_transform
from semask.losses.label import LabelCounts, count_label
from semask.losses.pixel import PixelLoss
from semask.model import SeMask
from semask.settings.training import Training
from semask.training.loop import seed_dropout
from semask.training.parameters import parameter_groups
from semask.training.run import Run


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scalars(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    return events


def test_checkpoints_hold_recipe_classes_and_versions(trained, scenes):
    described = json.loads((scenes / "classes.json").read_text(encoding="utf-8"))
    for name, step in (("last", 8), ("best", None)):
        metadata = json.loads((trained / f"{name}.json").read_text(encoding="utf-8"))
        with safe_open(trained / f"{name}.safetensors", framework="pt") as file:
            assert json.loads(file.metadata()["semask"]) == metadata
        assert metadata["step"] in ((step,) if step else (4, 8))
        assert metadata["classes"]["classes"] == described["classes"]
        assert metadata["classes"]["palette"] == described["palette"]
        assert metadata["versions"]["torch"] == torch.__version__
        assert set(metadata["versions"]) == {"semask", "torch", "torchvision", "python"}
        assert set(metadata["recipe"]) == {"model", "data", "augmentation", "loss", "training", "evaluation"}
        assert metadata["recipe"]["training"]["steps"] == 8
        assert build(**metadata["recipe"]["model"]).config == metadata["recipe"]["model"]


def test_best_is_the_evaluation_with_the_highest_miou(trained):
    evaluations = rows(trained / "evaluation.csv")
    assert [row["step"] for row in evaluations] == ["4", "8"]
    best = max(evaluations, key=lambda row: float(row["miou"]))
    metadata = json.loads((trained / "best.json").read_text(encoding="utf-8"))
    assert metadata["step"] == int(best["step"])
    assert metadata["metrics"]["miou"] == pytest.approx(float(best["miou"]), rel=1e-5)
    assert [f"{x:.6g}" for x in metadata["metrics"]["prior_miou"]] == [best[f"prior_{i}"] for i in (1, 2, 3, 4)]


def test_logs(trained):
    log = rows(trained / "log.csv")
    schedule = Training(steps=8, lr=1e-3, warmup_steps=2)
    assert [int(row["step"]) for row in log] == list(range(1, 9))
    assert [float(row["lr"]) for row in log] == pytest.approx([schedule.lr_at(i) for i in range(8)], rel=1e-5)
    for row in log:
        assert float(row["loss"]) == pytest.approx(float(row["main"]) + 0.4 * float(row["prior"]), rel=1e-4)
        assert float(row["images/s"]) > 0
    events = scalars(trained)
    points = events.Scalars("train/loss")
    assert [point.step for point in points] == list(range(1, 9))
    assert [point.value for point in points] == pytest.approx([float(row["loss"]) for row in log], rel=1e-4)
    assert [point.step for point in events.Scalars("val/miou")] == [4, 8]
    assert len(events.Tags()["images"]) == 3


def test_sample_predictions_show_image_label_prediction_and_priors(trained):
    samples = sorted((trained / "samples").iterdir())
    assert len(samples) == 3 * 2
    for path in samples:
        with Image.open(path) as picture:
            picture.load()
            assert picture.size == (7 * 64 + 6 * 4, 48)


def test_progress(semask, recipe, tmp_path):
    lines = semask(*recipe(tmp_path / "run", steps=2)).err
    for text in ("training", "2/2", "loss", "lr 2.50e-04", "images/s", "0:00:00", "mIoU"):
        assert text in lines


@pytest.mark.parametrize(
    "settings",
    [{}, {"accumulate": 2}, {"clip_norm": 0.01}, {"accumulate": 2, "clip_norm": 0.01, "weight_decay": 0.1}],
    ids=str,
)
def test_a_step_is_adamw_on_the_mean_gradient_of_the_passes(semask, recipe, scenes, tmp_path, settings):
    training = Training(steps=1, batch_size=4, lr=1e-3, warmup_steps=0, seed=3, **settings)
    semask(*recipe(tmp_path / "run", steps=1, batch_size=4, warmup_steps=0, seed=3, **settings))

    torch.manual_seed(3)
    model = accelerate(build("swin_nano", num_classes=11, channels=16)).train()  # rounds as training does
    loss = accelerate_loss(PixelLoss())
    optimizer = torch.optim.AdamW(parameter_groups(model, training), lr=1e-3, betas=training.betas)
    passes = training.accumulate
    batches = training_loader(
        Data(root=str(scenes)).dataset("train"),
        training_transform(Augmentation(scale=None, crop=(32, 32)), Normalization()),
        seed=3, batch_size=4 // passes, steps=passes, workers=0,
    )  # fmt: skip
    batches = list(batches)
    counted = count_label(torch.cat([batch.label for batch in batches]), 11)
    share = LabelCounts(*(x / passes for x in counted))
    for number, batch in enumerate(batches):
        seed_dropout(3, number, 0)
        (loss(model(batch.image), batch.label, counts=share).total / passes).backward()
    if training.clip_norm is not None:
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        assert norm > training.clip_norm
    optimizer.step()

    saved = load_file(tmp_path / "run" / "last.safetensors")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(saved[name], tensor, rtol=1e-5, atol=1e-6)
    # The first step of AdamW has the same length for every scale of the gradient; its moments have not.
    state, _ = read_whole(tmp_path / "run" / "resume")
    for name, parameter in model.named_parameters():
        moment = optimizer.state[parameter]["exp_avg"]
        torch.testing.assert_close(state[f"optimizer.{name}.exp_avg"], moment, rtol=1e-4, atol=1e-8)


@pytest.mark.usefixtures("semask")
@pytest.mark.parametrize("decoder", STEPS)
def test_every_pixel_of_a_step_weighs_the_same_in_one_and_in_several_passes(tmp_path, decoder):
    data = write_uneven(tmp_path / "data")
    for passes in (1, 2, 4):
        train_uneven(data, tmp_path / str(passes), decoder, passes=passes)
    for passes in (2, 4):
        compare_runs(tmp_path / "1", tmp_path / str(passes))
        if decoder == "segmenter":
            one, several = (load_file(tmp_path / name / "last.safetensors") for name in ("1", str(passes)))
            for name, expected in one.items():
                torch.testing.assert_close(several[name], expected, rtol=0, atol=2e-4)


def test_the_moving_average_is_saved(semask, recipe, tmp_path, monkeypatch):
    weights: list[dict[str, torch.Tensor]] = []
    finish_step = Run.finish_step

    def watched(run: Run, lr: float) -> None:
        weights.append({name: x.detach().clone() for name, x in run.model.state_dict().items()})
        finish_step(run, lr)

    monkeypatch.setattr(Run, "finish_step", watched)
    semask(*recipe(tmp_path / "run", steps=4, ema=0.75))
    saved = load_file(tmp_path / "run" / "last.safetensors")
    for name, last in weights[-1].items():
        average = weights[0][name].double()
        for later in weights[1:]:
            average = 0.75 * average + 0.25 * later[name].double()
        is_buffer = "running" in name or "num_batches" in name  # those are the last ones
        expected = last.double() if is_buffer else average
        torch.testing.assert_close(saved[name].double(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(saved["decoder.classifier.weight"], weights[-1]["decoder.classifier.weight"])


def test_bf16_stays_close_to_fp32_and_both_run_in_one_process(semask, recipe, tmp_path):
    losses = {}
    for precision in ("bf16", "fp32"):
        semask(*recipe(tmp_path / precision, precision=precision))
        losses[precision] = [float(row["loss"]) for row in rows(tmp_path / precision / "log.csv")]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert all(tensor.dtype != torch.bfloat16 for tensor in load_file(tmp_path / "bf16" / "last.safetensors").values())


def test_gradient_checkpointing_changes_no_number(semask, recipe, tmp_path):
    for enabled in ("true", "false"):
        semask(*recipe(tmp_path / enabled, steps=2, gradient_checkpointing=enabled))
    with_it, without = (load_file(tmp_path / enabled / "last.safetensors") for enabled in ("true", "false"))
    for name, tensor in without.items():
        torch.testing.assert_close(with_it[name], tensor, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "backend", ["eager", *(pytest.param(name, marks=pytest.mark.slow) for name in ("aot_eager", "inductor"))]
)
def test_compiled_training_gives_nearly_the_same(semask, recipe, tmp_path, monkeypatch, backend):
    torch.compiler.reset()
    counters.clear()
    real = SeMask.compile
    monkeypatch.setattr(SeMask, "compile", lambda model: real(model, backend=backend))
    nothing_drawn = {"model.drop_path": 0.0, "model.dropout": 0.0, "ema": 0.9}
    for enabled in ("true", "false"):
        semask(*recipe(tmp_path / enabled, steps=2, compile=enabled, **nothing_drawn))
    assert counters["stats"]["unique_graphs"] > 10
    with_it, without = (load_file(tmp_path / enabled / "last.safetensors") for enabled in ("true", "false"))
    assert with_it.keys() == without.keys()
    for name, tensor in without.items():
        torch.testing.assert_close(with_it[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_the_seed_decides(semask, recipe, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        semask(*recipe(tmp_path / name, steps=2, seed=seed))
    a, b, c = (load_file(tmp_path / name / "last.safetensors") for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["decoder.classifier.weight"], c["decoder.classifier.weight"])


def test_workers_change_no_number(semask, recipe, tmp_path):
    for workers in (0, 1):
        semask(*recipe(tmp_path / str(workers), steps=2, **{"data.workers": workers}))
    none, one = (load_file(tmp_path / str(workers) / "last.safetensors") for workers in (0, 1))
    assert all(torch.equal(none[name], one[name]) for name in none)


def test_a_plain_backbone_trains_without_priors(semask, recipe, tmp_path):
    semask(*recipe(tmp_path / "run", steps=2, **{"model.semantic_depths": 0}))
    log = rows(tmp_path / "run" / "log.csv")
    assert [row["prior"] for row in log] == ["0", "0"]
    assert all(math.isfinite(float(row["loss"])) for row in log)
    assert load(tmp_path / "run").metadata["metrics"]["prior_miou"] == []


@pytest.mark.parametrize("decoder", ["mask2former", "maskformer"])
def test_a_mask_decoder_learns_by_its_nano_recipe(semask, recipe, tmp_path, decoder):
    config = Path(__file__).parents[2] / "semask" / "recipes" / "synthetic" / f"semask_nano_{decoder}.yaml"
    small = {"model.channels": 32, "model.decoder_layers": 1, "training.warmup_steps": 0}
    command, *settings = recipe(tmp_path / "run", steps=15, evaluate_every=0, **small)
    semask(command, f"--config={config}", *settings)
    main, prior = ([float(row[name]) for row in rows(tmp_path / "run" / "log.csv")] for name in ("main", "prior"))
    assert sum(main[-3:]) < 0.9 * sum(main[:3])
    assert sum(prior[-3:]) < sum(prior[:3])


def test_fp16_needs_a_gpu(semask, recipe, tmp_path):
    message = semask.refused(*recipe(tmp_path / "run", precision="fp16"))
    assert "training.precision is fp16, which needs a GPU: use bf16 or fp32" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "training.steps is 0"),
        ({"lr": -1}, "training.lr is -1"),
        ({"seed": -1}, "training.seed is -1"),
        ({"ema": 1.0}, "training.ema is 1.0"),
        ({"clip_norm": 0}, "training.clip_norm is 0"),
        ({"batch_size": 3, "accumulate": 2}, "training.batch_size is 3.* give a multiple of 2"),
        ({"loss.class_weights": [1, 2]}, "loss.class_weights has 2 values for 11 classes"),
        ({"loss.prior_weight": -1}, "loss.prior_weight is -1"),
        ({"model.encoder": "swin_huge"}, "encoder is 'swin_huge': choose one of swin_nano"),
        ({"augmentation.flip": 2}, "augmentation.flip is 2"),
        ({"evaluation.stride": [600, 600]}, "stride .600, 600. is larger than crop"),
        ({"pretrained": "/nowhere/weights.safetensors"}, "/nowhere/weights.safetensors"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant(semask, recipe, tmp_path, settings, message):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "finish_step", lambda *_: pytest.fail("a step was done"))
        refused = semask.refused(*recipe(tmp_path / "run", **settings))
    assert re.search(message, refused), refused
    assert not (tmp_path / "run" / "resume").exists()


@pytest.mark.parametrize("place", ["file", "file/run", "/proc/nowhere/run"])
def test_a_folder_that_cannot_be_written(semask, recipe, tmp_path, place):
    (tmp_path / "file").touch()
    message = semask.refused(*recipe(tmp_path / place))
    assert message.startswith(str(tmp_path / place))
    assert "could not be written" in message


def two_classes(root: Path, *, white: int) -> Path:
    """A data set of 2 + 1 images of two classes, whose object has the value `white`."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 1)):
        for folder in ("images", "annotations"):
            (root / folder / split).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(root / f"images/{split}/{i}.png")
            mask = np.where(np.arange(1600).reshape(40, 40) % 40 < 15 + i, white, 0).astype(np.uint8)
            Image.fromarray(mask).save(root / f"annotations/{split}/{i}.png")
    (root / "classes.json").write_text('{"name": "yard", "classes": ["ground", "plant"]}')
    return root


@pytest.mark.parametrize("check", ["full", "labels", "none"])
def test_masks_of_0_and_255_stop_the_run_until_it_is_said_what_they_mean(semask, recipe, tmp_path, check):
    root = two_classes(tmp_path / "data", white=255)
    settings = {"data.root": root, "model.num_classes": 2, "data.check": check, "steps": 1}
    message = semask.refused(*recipe(tmp_path / "run", **settings))
    assert message.startswith("yard: the masks hold only 0 and 255, and there are two classes: say whether 255 is")
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_255_as_an_object_is_kept_in_the_recipe_and_followed(semask, recipe, tmp_path):
    settings = {"data.root": two_classes(tmp_path / "data", white=255), "model.num_classes": 2, "steps": 2}
    semask(*recipe(tmp_path / "run", **settings, **{"data.object_255": "true"}))
    semask("evaluate", tmp_path / "run", "--workers=0", "--out", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["data"]["object_255"] is True
    assert [row["pixels"] for row in report["classes"]] == [1000, 600]
    other = two_classes(tmp_path / "other", white=1)
    semask("evaluate", tmp_path / "run", "--data", other, "--workers=0", "--out", tmp_path / "report.json")
    assert [row["pixels"] for row in json.loads((tmp_path / "report.json").read_text())["classes"]] == [1000, 600]


def test_evaluate_refuses_masks_of_0_and_255_too(semask, recipe, tmp_path):
    settings = {"data.root": two_classes(tmp_path / "ones", white=1), "model.num_classes": 2, "steps": 1}
    semask(*recipe(tmp_path / "run", **settings))
    whites = two_classes(tmp_path / "whites", white=255)
    command = ["evaluate", tmp_path / "run", "--data", whites, "--workers=0"]
    assert "the masks hold only 0 and 255" in semask.refused(*command)
    output = semask(*command, "--object_255", "true", "--out", tmp_path / "report.json")
    assert [row["pixels"] for row in json.loads((tmp_path / "report.json").read_text())["classes"]] == [1000, 600]
    assert "warning" not in output.err
    semask(*command, "--object_255", "false")


def test_what_is_odd_about_the_data_is_told_before_the_first_step(semask, recipe, tmp_path):
    root = two_classes(tmp_path / "data", white=1)
    (root / "classes.json").write_text('{"classes": ["ground", "plant", "[/b] stone"], "ignore_index": 1}')
    (root / "images/train/0.heic").touch()
    shutil.copy(root / "images/train/0.png", root / "images/val/0.png")
    gray = np.linspace(1, 3000, 1600).astype(np.uint16).reshape(40, 40)
    Image.fromarray(gray).save(root / "images/train/1.png")
    for check in ("full", "labels", "none"):
        settings = {"data.root": root, "model.num_classes": 3, "data.check": check, "steps": 1}
        output = semask(*recipe(tmp_path / check, **settings))
        lines = [line for line in output.err.splitlines() if line.startswith("warning: ")]
        said = ["1 file is left out of the train split", "the value 1 is ignored", '2 "[/b] stone" never occurs']
        said += ["1 of the 1 validation images are also trained on", "1.png: 16-bit values reach 3,000 of 65,535"]
        expected = said[:1] if check == "none" else said
        assert len(lines) == len(expected)
        assert all(sum(part in line for line in lines) == 1 for part in expected)
        assert output.err.index(lines[-1]) < output.err.index("step 1/1")


def test_one_class_is_refused_before_anything_is_read(semask, recipe, tmp_path):
    root = two_classes(tmp_path / "data", white=0)
    (root / "classes.json").write_text('{"name": "yard", "classes": ["ground"]}')
    message = semask.refused(*recipe(tmp_path / "run", **{"data.root": root, "model.num_classes": 2}))
    assert message.startswith("yard: one class alone leaves nothing to learn, every pixel is 'ground': name two")
