"""Write label_studio_corrected/ next to this file: a prediction of semask, corrected in Label Studio and exported.

Was run with Label Studio 1.23.2 (pip install label-studio) and its SDK 2.1.2, Playwright and Debian's Chromium:

    LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=FOLDER label-studio start \
        --no-browser --username a@example.org --password secret12345 --user-token TOKEN --enable-legacy-api-token
    python tests/data/formats/samples/write_label_studio.py FOLDER TOKEN

Brushes are read back by the SDK: prediction.png is what was predicted, mask.png what was exported.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import requests
from label_studio_sdk.converter import brush
from PIL import Image
from playwright.sync_api import sync_playwright

from semask.data.classes import Classes
from semask.prediction.output import Written
from semask.prediction.outputs import label_studio
from semask.prediction.segmentation import Segmentation

OUT = Path(__file__).parent / "label_studio_corrected"
SERVER = "http://localhost:8080"
CLASSES = Classes(("background", "tree & <b>", "road, wide", 'a "sign"'))


def label() -> np.ndarray:
    """Three stripes and a square."""
    label = np.zeros((48, 64), np.uint8)
    label[16:] = 1
    label[32:] = 2
    label[20:28, 8:20] = 3
    label[:4, :4] = 255
    return label


def predicted(folder: Path) -> Path:
    """Write image and prediction, and give the folder of the import files."""
    image = folder / "photos" / "yard, 1+1.png"
    shutil.rmtree(image.parent, ignore_errors=True)
    image.parent.mkdir(parents=True)
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(image)
    rows = lambda count: iter([label()])  # noqa: E731
    made = Segmentation(image, folder / "out/yard", CLASSES, (48, 64), rows, lambda n: Image.open(image), folder)
    label_studio.write(made)
    label_studio.join(folder / "out", [Written(image, made.stem)], CLASSES)
    return folder / "out/label_studio"


def imported(folder: Path, files: Path, headers: dict) -> int:
    """Make a project with the prediction and give its number."""
    values = {"title": "corrected", "label_config": (files / "config.xml").read_text(encoding="utf-8")}
    number = requests.post(f"{SERVER}/api/projects", headers=headers, json=values).json()["id"]
    place = {"project": number, "path": str(folder / "photos"), "use_blob_urls": True}
    requests.post(f"{SERVER}/api/storages/localfiles", headers=headers, json=place).raise_for_status()
    tasks = {"file": ("tasks.json", (files / "tasks.json").read_bytes(), "application/json")}
    requests.post(f"{SERVER}/api/projects/{number}/import", headers=headers, files=tasks).raise_for_status()
    return number


def corrected(number: int, picture: Path) -> None:
    """Erase a part of the road in the browser, paint the sign there, and submit."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"{SERVER}/user/login/", wait_until="commit")
        page.fill("input[name=email]", "a@example.org")
        page.fill("input[name=password]", "secret12345")
        page.click("button[type=submit]")
        page.wait_for_timeout(4000)
        page.goto(f"{SERVER}/projects/{number}/data", wait_until="commit")
        page.get_by_role("button", name="Label All Tasks").click(timeout=60_000)
        page.wait_for_timeout(10_000)
        box = page.locator("canvas").first.bounding_box()
        for region, key in (("road, wide", "e"), ('a "sign"', "b")):  # select; eraser, brush
            page.get_by_text(region, exact=True).last.click()
            page.wait_for_timeout(500)
            page.keyboard.press(key)
            left, top = box["x"] + 0.5 * box["width"], box["y"] + 0.85 * box["height"]
            page.mouse.move(left, top)
            page.mouse.down()
            page.mouse.move(left + 0.3 * box["width"], top, steps=8)
            page.mouse.up()
            page.wait_for_timeout(500)
        page.screenshot(path=picture)
        page.get_by_test_id("bottombar-submit-button").click()
        page.wait_for_timeout(3000)
        browser.close()


def main(folder: Path, token: str) -> None:
    """Write the folder again."""
    headers = {"Authorization": f"Token {token}"}
    files = predicted(folder)
    number = imported(folder, files, headers)
    corrected(number, folder / "corrected.png")
    answer = requests.get(f"{SERVER}/api/projects/{number}/export?exportType=JSON", headers=headers)
    tasks = answer.json()
    mask = np.full((48, 64), 77, np.uint8)
    values = {name: value for value, name in enumerate(CLASSES.names)} | {"__ignore__": 255}
    for result in tasks[0]["annotations"][0]["result"]:
        alpha = brush.decode_rle(result["value"]["rle"]).reshape(48, 64, 4)[..., 3]
        mask[alpha > 0] = values[result["value"]["brushlabels"][0]]
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.copytree(folder / "photos", OUT / "images")
    (OUT / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    Image.fromarray(label()).save(OUT / "prediction.png")
    Image.fromarray(mask).save(OUT / "mask.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
