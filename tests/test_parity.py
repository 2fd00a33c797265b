import json
import sys
from pathlib import Path

import pytest
import torch
from parity import find, main, run
from parity_mask import build_mask_model
from parity_pixel import build

from semask.checkpoints.names import to_official

COPIED = Path(__file__).parent / "goldens" / "cases"
ALL = Path(__file__).parents[2] / "shared" / "goldens" / "public"
PATTERNS = "*"
PATHS = {path.stem: path for directory in (COPIED, ALL) for path in find(directory, PATTERNS)}


@pytest.mark.parametrize("name", PATHS)
def test_numbers_of_the_published_code(name, tmp_path):
    case = run(PATHS[name], tmp_path)
    worst, where = case.worst
    assert worst <= case.limit, where


def test_all_cases_are_at_hand():
    if not ALL.exists():
        pytest.skip("../shared/goldens/public is not there: only the cases in tests/goldens/cases were compared")
    assert len(PATHS) > len(list(find(COPIED, PATTERNS)))


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--cases", "fpn_large_tinyinput"], 0, "  ok  "),
        (["--cases", "fpn_large_tinyinput", "--limit", "1e-9"], 1, "OVER THE LIMIT"),
        (["--cases", "nothing_like_this"], 1, "no case in"),
    ],
)
def test_exit_code(monkeypatch, capsys, options, code, line):
    monkeypatch.setattr(sys, "argv", ["parity.py", str(COPIED), *options])
    assert main() == code
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sampler", "kept", "threshold"),
    [
        ({"type": "OHEMPixelSampler", "min_kept": 30, "thresh": 0.7}, 30, 0.7),
        ({"type": "OHEMPixelSampler", "thresh": 0.7}, 100_000, 0.7),
        ({"type": "OHEMPixelSampler", "min_kept": 30}, 30, None),
        (None, None, None),
    ],
)
def test_the_loss_mines_as_the_case_s_sampler(sampler, kept, threshold):
    spec = spec_of("fpn_large_tinyinput")
    spec["head_overrides"] |= {"sampler": sampler, "loss_decode": {"class_weight": [1, 2, 3]}}
    _, loss = build(spec)
    assert (loss.ohem_min_kept, loss.ohem_threshold) == (kept, threshold)
    assert loss.class_weights == (1, 2, 3)


def spec_of(name: str) -> dict:
    return json.loads(PATHS[name].read_text(encoding="utf-8"))


MASK_CASES = sorted(name for name in PATHS if name.startswith(("mask", "fapn", "msfapn")))


@pytest.mark.parametrize("name", MASK_CASES)
def test_widths_heads_and_weights_of_a_mask_case(name):
    spec = spec_of(name)
    spec["sem_seg_head"] |= {"CONVS_DIM": 32, "MASK_DIM": 24}
    spec["mask_former"] |= {
        "HIDDEN_DIM": 96,
        "NHEADS": 4,
        "DICE_WEIGHT": 3.0,
        "CATE_WEIGHT": 0.7,
        "NO_OBJECT_WEIGHT": 0.2,
    }
    model, loss = build_mask_model(spec)
    shapes = {tensor: list(x.shape) for tensor, x in to_official(model).items()}
    assert shapes["sem_seg_head.pixel_decoder.mask_features.weight"][:2] == [24, 32]
    assert shapes["sem_seg_head.predictor.mask_embed.layers.2.weight"] == [24, 96]
    projection = [192, 1, 1] if spec["family"] == "maskformer" else [32, 1, 1]
    number = "" if spec["family"] == "maskformer" else "0."
    assert shapes[f"sem_seg_head.predictor.input_proj.{number}weight"] == [96, *projection]
    assert (loss.dice_weight, loss.prior_weight, loss.no_object_weight) == (3.0, 0.7, 0.2)
    model.eval()(torch.randn(1, 3, 64, 64))


def test_a_case_that_hangs_on_a_threshold_is_compared_in_float64(tmp_path):
    name = next(name for name in MASK_CASES if name.startswith("mask2former"))
    case = run(PATHS[name], tmp_path, torch.bfloat16)  # rounds many scores to the other side of zero
    assert "in float64, since torch.bfloat16 rounds" in case.remark
    assert case.worst[0] <= case.limit


def test_a_case_with_settings_that_are_not_built_here():
    spec = spec_of(MASK_CASES[0])
    spec["mask_former"]["PRE_NORM"] = True
    with pytest.raises(AssertionError, match="PRE_NORM is True: only False is built here"):
        build_mask_model(spec)
