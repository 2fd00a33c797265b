import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from semask import Inference
from semask.checkpoints.published import MULTISCALE, PUBLISHED, Published, find
from semask.data.classes import Classes

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT.parent / "shared" / "goldens" / "manifests"
DATA = {"ade20k": "ADE20K", "cityscapes": "Cityscapes", "coco_stuff": "COCO-Stuff 10k"}


def as_inference(settings: dict[str, Any]) -> Inference:
    return Inference(**{name: tuple(x) if isinstance(x, list) else x for name, x in settings.items()})


def test_there_are_17_and_names_are_keys():
    assert len(PUBLISHED) == 17
    assert all(name == published.name for name, published in PUBLISHED.items())
    assert len({published.drive_id for published in PUBLISHED.values()}) == 17


@pytest.mark.parametrize("published", PUBLISHED.values(), ids=PUBLISHED)
def test_a_row_is_the_recipe(published: Published):
    text = (ROOT / "semask" / "recipes" / published.config).read_text(encoding="utf-8")
    recipe = yaml.safe_load(text)
    model = recipe["model"]
    assert (published.encoder, published.decoder) == (model["encoder"], model["decoder"])
    assert list(published.semantic_window) == model["semantic_window"]
    assert published.recipe["data"]["format"] == recipe["data"]["format"]
    assert len(Classes.of(published.format)) == model["num_classes"]
    assert as_inference(published.recipe["evaluation"]) == as_inference(recipe["evaluation"])
    numbers = re.search(r"mIoU: ([\d.]+) single-scale, ([\d.]+) multi-scale \+ flip\.", text.splitlines()[0])
    assert numbers is not None
    assert (published.miou, published.miou_multiscale) == (float(numbers[1]), float(numbers[2]))
    assert f" on {DATA[published.format]}." in text.splitlines()[0]


def test_every_recipe_with_a_published_number_is_there():
    headed = {
        path
        for path in (ROOT / "semask" / "recipes").rglob("semask_*.yaml")
        if "Published mIoU" in path.read_text("utf-8")
    }
    assert {ROOT / "semask" / "recipes" / published.config for published in PUBLISHED.values()} == headed


def manifest(published: Published) -> dict[str, Any]:
    if not MANIFESTS.is_dir():
        pytest.skip("../shared/goldens/manifests is not there: rows were compared with configs/ only")
    size, decoder = published.encoder.removeprefix("swin_"), published.decoder
    name = f"semask_{decoder}_{size}_{published.name.rpartition('-')[2]}.json"
    content: dict[str, Any] = json.loads((MANIFESTS / name).read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("published", PUBLISHED.values(), ids=PUBLISHED)
def test_a_row_is_what_was_published(published: Published):
    entry = manifest(published)
    checkpoint, evaluation = entry["checkpoint"], entry["evaluation"]
    assert (published.drive_id, published.miou) == (checkpoint["gdrive_id"], checkpoint["miou"])
    assert published.miou_multiscale == checkpoint["miou_ms_flip"]
    assert checkpoint["url"].startswith(published.page)
    settings = {name.lower(): value for name, value in entry["backbone_config"].items()}
    blocks = entry["semantic_layer_variant"]["per_stage_block"]
    window = [settings["sem_window_size"] if block == "SWSeMaskBlock" else None for block in blocks]
    assert list(published.semantic_window) == window
    if "pipeline" in evaluation:
        assert list(published.scale) == evaluation["pipeline"][1]["img_scale"]
        assert list(MULTISCALE["ratios"]) == evaluation["ms_flip"]["img_ratios"]
        assert MULTISCALE["flip"] is evaluation["ms_flip"]["flip"]
    else:
        assert published.scale == (evaluation["max_size_test"], evaluation["min_size_test"])
        assert [published.scale[1] * ratio for ratio in MULTISCALE["ratios"]] == evaluation["aug"]["MIN_SIZES"]


def test_the_protocols_are_json_for_inference():
    mask, pixel = find("semask-large-maskformer-ade20k"), find("semask-tiny-fpn-ade20k")
    assert json.loads(json.dumps(pixel.recipe)) == pixel.recipe
    assert as_inference(pixel.recipe["evaluation"]) == Inference(scale=(2048, 512))
    assert as_inference(mask.recipe["evaluation"]) == Inference(scale=(2560, 640), antialias=True)
    single = as_inference(mask.recipe["evaluation"])
    assert as_inference(mask.multiscale) == dataclasses.replace(single, **MULTISCALE)


def test_licences():
    for published in PUBLISHED.values():
        assert published.licence.startswith("Apache-2.0")
        assert ("CC-BY-NC-4.0" in published.licence) == (published.decoder != "fpn")


def test_find():
    assert find("semask-base-fpn-cityscapes").miou == 77.70
    with pytest.raises(ValueError, match=r"'semask-tiny-ade' is no published model: .* semask-tiny-fpn-ade20k"):
        find("semask-tiny-ade")


def scope(published: Published) -> str:
    return ", ".join("global" if window is None else str(window) for window in published.semantic_window)


def test_the_table_of_the_documentation():
    rows = [
        f"| `{x.name}` | {DATA[x.format]} | {x.miou:.2f} | {x.miou_multiscale:.2f} | {scope(x)} | {x.scale[1]} | "
        f"{x.licence} |"
        for x in PUBLISHED.values()
    ]
    lines = (ROOT / "docs" / "published.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("| `semask-")] == rows
