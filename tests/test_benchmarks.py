"""The reference of the benchmarks is the same model as ours, and the harness measures."""

import json
import math
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from semask import PixelLoss, SeMask
from semask.builder import build

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # as for `python benchmarks/run.py`

import harness  # noqa: E402
import reference  # noqa: E402
import run  # noqa: E402
import sides  # noqa: E402

SMALL = ["--encoder", "swin_nano", "--classes", "5", "--sizes", "64x64", "--rounds", "2", "--warmups", "1"]


def model(**settings) -> SeMask:
    """Model in which every part says something, in double precision."""
    built = build(**{"encoder": "swin_nano", "num_classes": 5, "channels": 16, **settings}).double()
    for name, parameter in built.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if name.endswith("scale") else 0.0, std=0.2)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return built.eval()


@pytest.mark.parametrize(
    "settings", [{}, {"semantic_window": (7, 12, 5, 7), "semantic_depths": (1, 2, 1, 3), "window": 5}]
)
@pytest.mark.parametrize("size", [(64, 64), (97, 130)])
def test_the_reference_equals_ours(settings, size):
    ours = model(**settings)
    plain = reference.Reference.from_ours(ours)
    image = torch.randn(2, 3, *size).double()
    expected, output = (x(image, with_prior=True) for x in (ours, plain))
    torch.testing.assert_close(output.logits, expected.logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(output.prior_logits, expected.prior_logits, rtol=1e-9, atol=1e-9)
    for prior, other in zip(output.priors, expected.priors, strict=True):
        torch.testing.assert_close(prior, other, rtol=1e-9, atol=1e-9)
    assert plain(image).prior_logits is None
    assert expected.logits.std() > 0.1


def test_the_gradients_of_the_reference_equal_ours():
    ours = model()
    plain = reference.Reference.from_ours(ours)
    image, label = torch.randn(2, 3, 97, 130).double(), torch.randint(5, (2, 97, 130))
    label[:, :30] = 255
    expected = PixelLoss(average="all")(ours(image, with_prior=True), label).total
    loss = reference.loss(plain(image, with_prior=True), label)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    found = {name: parameter.grad for name, parameter in plain.named_parameters()}
    for name, parameter in ours.named_parameters():
        for part in ("encoder.backbone.", "encoder.", "decoder."):
            name = name.removeprefix(part)
        torch.testing.assert_close(found.pop(name), parameter.grad, rtol=1e-7, atol=1e-9)
    assert not found


def test_the_reference_has_no_other_models():
    with pytest.raises(ValueError, match="no other decoder"):
        reference.Reference.from_ours(build("swin_nano", "segmenter", num_classes=2, channels=8))


def test_the_reference_runs_nothing_of_the_package():
    assert not {line for line in Path(reference.__file__).read_text().splitlines() if "import semask" in line}
    assert not {
        name for name, value in vars(reference).items() if getattr(value, "__module__", "").startswith("semask")
    }


FILL = partial(partial, torch.ones)  # FILL(n)() fills n values; without this file, new processes start in less time
FILL_FAR_TOO_MUCH = partial(partial, torch.ones, 2**20)


def test_ratios_are_to_the_first_side_in_each_round(monkeypatch):
    monkeypatch.setattr(harness, "apart", lambda *_: {"a": [1.0, 2.0, 4.0], "b": [2.0, 2.0, 2.0]})
    first, second = harness.compare("case", None, {"a": FILL, "b": FILL}, harness.Settings(memory=False))
    assert (first.side, first.ratios, first.peak) == ("a", [1.0, 1.0, 1.0], None)
    assert (second.side, second.ratios, second.median) == ("b", [2.0, 1.0, 0.5], 2.0)
    assert harness.COLUMNS["ratio"](second, first) == "1.00 (0.50-2.00)"


def test_a_step_is_timed():
    assert 0.02 <= harness.clock(lambda: time.sleep(0.02), "cpu") < 2


@pytest.mark.parametrize("order", harness.ORDERS)
def test_every_side_has_a_turn_in_each_round(order):
    called = []
    sides = {name: lambda _, name=name: lambda: called.append(name) for name in "abc"}
    harness.take_turns(sides, None, harness.Settings(rounds=3, warmups=1, order=order))
    rounds = [called[i : i + 3] for i in range(0, 12, 3)]
    assert [sorted(x) for x in rounds] == 4 * [["a", "b", "c"]]
    if order != "shuffled":
        assert [x[0] for x in rounds] == list("abca" if order == "rotated" else "aaaa")


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_peak_memory_is_that_of_a_process_of_its_own():
    peak, growth = harness.apart(harness.peak_memory, FILL, 300 * 2**18, harness.Settings())
    assert 300 <= growth < 400
    assert peak > growth + 50
    assert harness.apart(harness.peak_memory, FILL_FAR_TOO_MUCH, 300 * 2**18, harness.Settings()) is None


def test_what_does_not_fit_has_no_numbers(monkeypatch):
    measured = {harness.peak_memory: None, harness.take_turns: {}}
    monkeypatch.setattr(harness, "apart", lambda function, *_: measured[function])
    (found,) = harness.compare("case", None, {"a": FILL}, harness.Settings())
    assert (found.seconds, found.ratios, found.peak) == ([], [], None)
    assert math.isnan(found.median)
    assert harness.COLUMNS["seconds"](found, found) == "out of memory"


def test_exponents():
    fitted, least, greatest = harness.exponent([1, 2, 4, 8], [1, 4, 8, 64])
    assert (least, greatest) == pytest.approx((1, 3))
    assert fitted == pytest.approx(1.9)


@pytest.fixture
def in_this_process(monkeypatch):
    """New processes would take seconds each."""
    monkeypatch.setattr(harness, "apart", lambda function, *arguments: function(*arguments))


def table(text: str) -> list[list[str]]:
    """Cells of the rows of all tables in a text."""
    return [[x.strip() for x in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("command", ["latency", "train", "throughput"])
def test_commands(command, capsys, tmp_path):
    batches = ["--batches", "1", "2"] if command == "throughput" else []
    options = [command, *SMALL, *batches, "--no-memory", "--sides", "reference", "eager-bf16"]
    run.main([*options, "--threads", "1", "--json", str(tmp_path / "x.json")])
    rows = table(capsys.readouterr().out)
    cases = {"latency": ["1"], "train": ["2"], "throughput": ["1", "2"]}[command]
    assert [row[:2] for row in rows[2:]] == [[f"{n} x 64 x 64", x] for n in cases for x in ("reference", "eager-bf16")]
    written = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert len(written["results"]) == len(rows) - 2
    assert written["machine"]["threads"] == 1
    assert all(len(x["seconds"]) == 2 and x["values"]["images/s"] > 0 for x in written["results"])
    assert all((x["values"].get("share", 0) > 0) == (command == "train") for x in written["results"])


@pytest.mark.usefixtures("in_this_process")
def test_curves(capsys):
    options = ["curves", *SMALL[:4], "--rounds", "1", "--warmups", "0", "--sizes", "32x32", "64x64", "--no-memory"]
    run.main([*options, "--class-counts", "2", "9", "--class-size", "32x64", "--threads", "1"])
    rows = table(capsys.readouterr().out)
    fits = [row for row in rows if row[1] == "seconds" and row[0] != "case"]
    assert [(row[0], row[-1]) for row in fits] == [
        ("reference", "1,024 to 4,096"),
        ("eager", "1,024 to 4,096"),
        ("reference", "2 to 9"),
        ("eager", "2 to 9"),
    ]


@pytest.mark.usefixtures("in_this_process")
def test_attention(capsys):
    run.main(["attention", "--tokens", "64", "--classes", "4", "--channels", "8", "--no-memory", "--rounds", "1"])
    rows = table(capsys.readouterr().out)[2:]
    assert [row[0] for row in rows] == 2 * ["64, forward"] + 2 * ["64, forward, backward"]


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("alone", [True, False])
def test_optimisations(alone, capsys):
    options = ["optimisations", *SMALL[:4], "--sizes", "64x64", "--train-sizes", "32x64", "--rounds", "1"]
    options += ["--warmups", "0", "--threads", "1", "--no-memory", "--only", "block", "cross_entropy"]
    run.main([*options, *(["--alone"] if alone else [])])
    rows = [row for row in table(capsys.readouterr().out) if "x" in row[0]]
    sides = ["plain", "only block", "only cross_entropy"]
    sides = sides if alone else ["all", "without block", "without cross_entropy"]
    assert [row[:2] for row in rows] == [
        [f"{case}", side] for case in 2 * ["1 x 64 x 64"] + 2 * ["2 x 32 x 64"] for side in sides
    ]


def test_each_optimization_can_be_left_out():
    every = sides.optimizations(sides.OPTIMIZATIONS, alone=False, bf16=False)
    assert len(every) == 1 + len(sides.OPTIMIZATIONS)
    for name, builder in list(every.items())[1:]:
        assert set(sides.OPTIMIZATIONS) - set(builder.keywords["faster"]) == {name.removeprefix("without ")}
    with pytest.raises(ValueError, match="no optimization bands: choose from convolution, linear, "):
        sides.optimizations(["bands"], alone=True, bf16=False)


def test_data(capsys, scenes, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # of the other tests
    options = [
        "data",
        "--data",
        str(scenes),
        "--workers",
        "0",
        "--samples",
        "4",
        "--crop",
        "32",
        "32",
        "--scale",
        "64",
        "48",
    ]
    run.main([*options, "--step-seconds", "0.01", "--batch-size", "2"])
    out = capsys.readouterr().out
    assert "200 images/s need" in out
    names = [row[0] for row in table(out)]
    assert names[2:5] == ["decode image", "decode mask", "RandomResize"]


def test_other_libraries():
    pytest.importorskip("transformers")
    for name in ("transformers/segformer-b2", "transformers/mask2former-swin-tiny"):
        label = sides.SIDES[name](sides.Case("predict", 1, (64, 96), classes=5))()
        assert label.shape == (1, 64, 96)
        assert label.max() < 5


def test_digest(capsys, monkeypatch):
    import digest

    monkeypatch.setattr(sys, "argv", ["digest.py", "--encoder", "swin_nano", "--channels", "16", "--rounds", "1"])
    digest.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == 5 * ["| last.safetensors"]
    assert [float(row[4].strip(" |")) for row in rows if row[2] == "load"] == [100.0]


def test_wrong_names(capsys):
    with pytest.raises(SystemExit, match="error: no side ours: choose of reference, "):
        run.main(["latency", "--sides", "ours"])
    with pytest.raises(ValueError, match="leave it out of --sides"):
        sides.SIDES["onnx"](sides.Case("train", 1, (64, 64)))
