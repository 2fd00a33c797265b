"""The page of an explanation: whole, without anything from elsewhere, escaped; what it computes with is exact."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from small_models import small
from test_explain import photo

from semask import Classes, Predictor, build
from semask.explain.attention import AttentionMaps
from semask.explain.compact import MOST_ERROR, compact, compact_all
from semask.explain.explanation import Explanation

EVIL = ("</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<b>&amp;", "\u202eabc", "plain")
LONELY = {"meta", "img", "input", "br"}


class Page(HTMLParser):
    """Opens and closes every tag, and keeps attributes and what scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in LONELY:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def explained() -> Explanation:
    model = small()
    model.metadata["classes"] = {"classes": EVIL, "palette": Classes(EVIL).palette}
    return Predictor(model).explain(photo())


def test_the_page_is_whole_and_needs_nothing_else(explained):
    text = explained.page()
    page = Page(text)
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "base", "form")
        assert all(not name.startswith("on") for name in attributes)
        assert (attributes.get("src") or "data:").startswith("data:")
        assert tag != "img" or attributes["alt"]
    around = re.sub(r'data:image[^"]*|http-equiv', "", text.replace(page.scripts[0], ""))
    assert not any(word in around for word in ("http", "//www", "url(", "@import"))
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    used = set(re.findall(r'find\("(\w+)"\)', page.scripts[1]))
    assert used <= set(ids)
    for function in ("fetch(", "XMLHttpRequest", "import(", "innerHTML", "eval("):
        assert function not in page.scripts[1]


def test_hostile_names_are_text(explained):
    text = explained.page(title="<script>alert(2)</script>\x1b[2J")
    page = Page(text)
    assert len(page.scripts) == 2
    assert [tag for tag, _ in page.tags].count("img") == 2
    assert "<script>alert(2)</script>" in page.text  # shown, not run
    data = json.loads(page.scripts[0])
    names = [entry["name"] for entry in data["classes"]]
    assert names == [*EVIL[:3], "?abc", "plain"]
    assert "<" not in page.scripts[0]


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(explained):
    page = Page(explained._repr_html_())
    ((tag, attributes),) = page.tags
    assert (tag, attributes["sandbox"]) == ("iframe", "allow-scripts")
    assert attributes["srcdoc"] == explained.page()


def page_weights(data, stage, pixel):
    """What the script computes, step by step, from the data of the page alone."""
    own = data["attention"][stage]
    (height, width), r = own["padded"], own["channels"]
    query, key = (
        np.frombuffer(base64.b64decode(own[name]), "<i2").reshape(height, width, r) * np.float32(own[f"{name}Step"])
        for name in ("query", "key")
    )
    token = [
        min(int((x + 0.5) / length * covered), tokens - 1)
        for x, length, covered, tokens in zip(pixel, data["size"], own["covered"], own["size"], strict=True)
    ]
    side = own["window"]
    first = [x - x % side if side else 0 for x in token]
    end = [first[0] + (side or height), first[1] + (side or width)]
    logits = {
        (y, x): float(query[tuple(token)] @ key[y, x]) for y in range(first[0], end[0]) for x in range(first[1], end[1])
    }
    total = sum(np.exp(value - max(logits.values())) for value in logits.values())
    found = np.zeros(own["size"])
    for (y, x), value in logits.items():
        if y < found.shape[0] and x < found.shape[1]:
            found[y, x] = np.exp(value - max(logits.values())) / total
    return found


def test_the_page_has_the_attention_and_the_classes_of_the_explanation(explained):
    data = json.loads(Page(explained.page()).scripts[0])
    rows, columns = data["grid"]
    labels = [*(stage.label for stage in explained.stages), explained.prediction.label]
    for row, column in [(0, 0), (rows - 1, columns - 1), (31, 44)]:
        pixel = (int((row + 0.5) * 70 / rows), int((column + 0.5) * 90 / columns))
        for place, label in enumerate(labels):
            assert base64.b64decode(data["labels"][place])[row * columns + column] == label[pixel]
        for place, stage in enumerate(explained.stages):
            sure = base64.b64decode(data["confidence"][place])[row * columns + column]
            assert sure / 255 == pytest.approx(stage.confidence[pixel], abs=1 / 500)
        assert base64.b64decode(data["settled"])[row * columns + column] == explained.settled[pixel]
        assert base64.b64decode(data["first"])[row * columns + column] == explained.first[pixel]
        for place, stage in enumerate(explained.stages):
            weights = explained.attention_of(stage.stage, pixel)
            assert np.allclose(page_weights(data, place, pixel), weights, atol=1e-3)


def test_the_page_has_the_change_of_every_token(explained):
    data = json.loads(Page(explained.page()).scripts[0])
    for own, stage in zip(data["attention"], explained.stages, strict=True):
        change = np.frombuffer(base64.b64decode(own["change"]), "<i2").reshape(own["size"]) * own["changeStep"]
        assert np.allclose(change, stage.change, atol=stage.change.max() / 60_000)


def cells(text: str) -> dict[str, list[str]]:
    """Rows of the table of the steps, by their head."""
    body = text.split("<table aria-describedby", 1)[1].split("<tbody>", 1)[1].split("</tbody>", 1)[0]
    return {
        head: re.findall("<td>(.*?)</td>", row)
        for head, row in re.findall('<tr><th scope="row">(.*?)</th>(.*?)</tr>', body)
    }


def test_the_numbers_of_the_page_are_those_of_loops(explained):
    text = explained.page()
    rows, data = cells(text), json.loads(Page(text).scripts[0])
    final, pixels = explained.prediction.label, [(y, x) for y in range(70) for x in range(90)]
    columns = [[stage.label[place] for stage in explained.stages] for place in pixels]  # of each pixel
    goal = [final[place] for place in pixels]
    later = {"first": [0] * 5, "stays": [0] * 5}
    for own, end in zip(columns, goal, strict=True):
        later["first"][own.index(end) if end in own else 4] += 1
        stays = 4
        while stays and own[stays - 1] == end:
            stays -= 1
        later["stays"][stays] += 1
    total = explained.flops
    for i, stage in enumerate(explained.stages):
        h, w = stage.change.shape
        change = sum(float(stage.change[y, x]) for y in range(h) for x in range(w)) / (h * w)
        agrees = sum(own[i] == end for own, end in zip(columns, goal, strict=True)) / 6300
        sure = sum(float(stage.confidence[place]) for place in pixels) / 6300
        cost = f"{100 * stage.flops / total:.1f} %"
        (scale,) = stage.scales
        first, stays = (f"{100 * later[name][i] / 6300:.1f} %" for name in ("first", "stays"))
        *shares, place = rows[f"stage {i + 1}"]
        assert shares == [
            cost,
            f"{100 * agrees:.1f} %",
            first,
            stays,
            f"{100 * sure:.1f} %",
            f"{100 * change:.2g} %",
            f"{scale:.3g}",
        ]
        assert place == f"{h} x {w}, " + ("in windows of 7 x 7" if i < 2 else "global")
        assert data["exits"][i].startswith(f"An early exit here costs {cost} of the FLOPs; {100 * agrees:.1f} % of")
        assert dict(data["shares"][i]) == {int(k): (stage.label == k).mean() for k in set(stage.label.ravel())}
    sure = sum(float(explained.prediction.confidence[place]) for place in pixels) / 6300
    first, stays = (f"{100 * later[name][4] / 6300:.1f} %" for name in ("first", "stays"))
    last = [f"{total / 1e9:.2f} GFLOPs", "100 %", first, stays, f"{100 * sure:.1f} %"]
    assert rows["decoder"] == [*last, "", "", ""]


def test_a_page_without_priors_says_so_and_how_to_get_them():
    text = Predictor(build("swin_nano", num_classes=4, channels=8, semantic_depths=0)).explain(photo()).page()
    assert Page(text).open == []
    assert "no semantic layers, so there are no priors" in text
    assert "semask train FOLDER" in text
    data = json.loads(Page(text).scripts[0])
    assert list(data["kinds"]) == ["classes", "confidence"]
    assert data["attention"] == []
    assert list(cells(text)) == ["decoder"]


def maps(classes: int, side: int = 12, *, rank: int | None = None) -> AttentionMaps:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(rank or classes, classes))
    query, key = (rng.normal(size=(side, side, rank or classes)) @ mix / classes for _ in range(2))
    return AttentionMaps(query.astype(np.float32), key.astype(np.float32), (side, side), (side, side), None)


def test_attention_with_fewer_channels_says_how_far_it_is_off():
    whole = maps(30)
    exact = compact(whole, most=10**6)
    assert exact.query.shape == (12, 12, 30)
    assert exact.error < 1e-3
    low = compact(maps(30, rank=5), most=4 * 144 * 6)  # 5 channels and the mean say everything
    assert low.query.shape == (12, 12, 6)
    assert low.error < 1e-3
    rough = compact(whole, most=4 * 144 * 25)
    assert rough is None or exact.error < rough.error <= MOST_ERROR
    assert compact(whole, most=4 * 144 - 1) is None


def test_no_window_needs_more_channels_than_tokens():
    whole = replace(maps(30), window=4)
    small = compact(whole, most=4 * 144 * 16)
    assert small.query.shape == (12, 12, 16)
    assert small.error < 1e-3
    assert compact(replace(whole, window=None), most=4 * 144 * 16).error > 10 * small.error


def test_small_maps_keep_their_channels_and_all_stay_within_the_bytes():
    found = compact_all([maps(20, 40), maps(20, 8), maps(20, 4)], most=40_000)
    assert [x is None or x.query.shape[-1] for x in found][1:] == [20, 20]
    assert sum(4 * x.query.size for x in found if x is not None) <= 40_000
    few_tokens = compact(maps(20, 2), most=10**6)  # fewer tokens than channels
    assert few_tokens.error < 1e-3
    assert few_tokens.query.shape == (2, 2, 20)
