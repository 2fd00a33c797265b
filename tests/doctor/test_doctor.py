"""The command, the page, the cache and the processes."""

import html.parser
import json
from pathlib import Path

import numpy as np
import pytest
from broken import BROKEN
from made import Made
from right import RIGHT, put_bands

from semask.data.source import Data
from semask.doctor.cache import Cache, as_plain, facts_from, key_of
from semask.doctor.class_lists import read_class_list
from semask.doctor.examination import doctor
from semask.doctor.examine import FACTS_FILE
from semask.doctor.facts import facts_of, mask_facts
from semask.doctor.findings import Collector
from semask.doctor.kinds import KINDS, markdown
from semask.doctor.processes import facts_of_all
from semask.doctor.quick import quick_findings
from semask.doctor.samples import Sample, samples_of
from semask.doctor.scan import scan

ROOT = Path(__file__).parents[2]


def samples(made: Made) -> list[Sample]:
    return [Sample("train", made.image(i), made.mask(i), f"p{i}") for i in range(6)]


def test_the_table_of_the_docs_is_that_of_the_findings():
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert page.partition("markdown() -->\n")[2].partition("<!-- end -->")[0] == markdown()


def test_every_finding_can_be_found():
    source = " ".join(path.read_text() for path in (ROOT / "semask" / "doctor").glob("*.py") if path.name != "kinds.py")
    assert [name for name in KINDS if f'"{name}"' not in source] == []


@pytest.mark.parametrize(("name", "code"), [(None, 0), ("dark", 1), ("0 and 255", 2)])
def test_exit_code_and_table(name, code, tmp_path, semask):
    made = Made(tmp_path / "set")
    if name is not None:
        BROKEN[name][2](made)
    said = semask("doctor", made.root, "--out", tmp_path / "out", "--workers", 0, code=code).out
    assert "4 of train, 2 of val" in said
    assert ("dark" in said, "zero-255" in said) == (name == "dark", name == "0 and 255")
    assert (tmp_path / "out" / "report.html").is_file()


def test_the_report_is_not_written_into_the_data(tmp_path, semask):
    made = Made(tmp_path / "set")
    before = sorted(made.root.rglob("*"))
    assert "give --out another folder" in semask.refused("doctor", made.root, "--out", made.root / "report")
    assert sorted(made.root.rglob("*")) == before


def test_no_such_folder(tmp_path, semask):
    assert "no such folder" in semask.refused("doctor", tmp_path / "gone", "--out", tmp_path / "out")


class Page(html.parser.HTMLParser):
    """Notes what a page refers to, and checks that its tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.ids: set[str | None] = set()
        self.links: list[str | None] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.ids.add(values.get("id"))
        self.images += [values] if tag == "img" else []
        self.links += [values.get("href")] if "href" in values else []
        assert tag not in ("script", "link", "iframe")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_can_be_read_aloud(tmp_path):
    made = Made(tmp_path / "set")
    for name in ("one unknown value", "twice in a split", "truncated png"):
        BROKEN[name][2](made)
    made.root.rename(tmp_path / "<b>&set")
    made.root = tmp_path / "<b>&set"
    outcome = doctor({"root": str(made.root)}, out=tmp_path / "out", workers=0)
    text = outcome.page.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert not page.open
    assert page.images
    assert all(x["alt"] and str(x["src"]).startswith("data:image/") for x in page.images)
    assert {x[1:] for x in page.links if x} <= page.ids
    assert {x.name for x in outcome.findings} <= page.ids
    assert "<b>&set" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert 'role="img"' in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_what_is_known_is_not_read_again(tmp_path, monkeypatch):
    made = Made(tmp_path / "set")
    first = doctor({"root": str(made.root)}, out=tmp_path / "out", workers=0)
    looked = []
    monkeypatch.setattr("semask.doctor.processes.facts_of", lambda *pair: looked.append(pair) or facts_of(*pair))
    again = doctor({"root": str(made.root)}, out=tmp_path / "out", workers=0)
    assert not looked
    assert again.findings == first.findings
    BROKEN["image of 0 bytes"][2](made)
    assert doctor({"root": str(made.root)}, out=tmp_path / "out", workers=0).code == 2
    assert len(looked) == 1


def test_facts_survive_the_file(tmp_path):
    made = Made(tmp_path / "set")
    made.all_masks(made.palette())
    facts = facts_of(made.image(0), made.mask(0))
    assert facts_from(json.loads(json.dumps(as_plain(facts)))) == facts


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.pop("image"),
        lambda x: x["image"].update(height="3"),
        lambda x: x["image"].update(height=-3),
        lambda x: x["image"].update(orientation=99),
        lambda x: x["image"].update(kind="made-up"),
        lambda x: x["image"].update(problem="x" * 10**4),
        lambda x: x["image_pixels"].update(thumbnail="zz" * 256),
        lambda x: x["image_pixels"].update(thumbnail="00"),
        lambda x: x["image_pixels"].update(transparent=float("nan")),
        lambda x: x["mask_pixels"].update(values={"a": 1}),
        lambda x: x["mask_pixels"].update(values={str(i): 1 for i in range(10**4)}),
        lambda x: x["mask_pixels"].update(thin=[[]]),
        lambda x: x["mask_pixels"].update(further=1),
        lambda x: x["mask_pixels"].update(distinct=2**70),
    ],
)
def test_facts_of_anybody_are_checked(change, tmp_path):
    made = Made(tmp_path / "set")
    sample = samples(made)[0]
    facts = facts_of(sample.image, sample.label)
    values = json.loads(json.dumps(as_plain(facts)))
    change(values)
    with pytest.raises((ValueError, TypeError, KeyError)):
        facts_from(values)
    cache = Cache(tmp_path / FACTS_FILE)
    cache.put(sample, facts)
    cache.flush()
    key, version, _ = json.loads((tmp_path / FACTS_FILE).read_text())
    (tmp_path / FACTS_FILE).write_text(json.dumps([key, version, values]) + "\n")
    assert Cache(tmp_path / FACTS_FILE).get(sample) is None


@pytest.mark.parametrize("content", [b"", b"\xff" * 10**5, b'["' + b"a" * 32 + b'", 1, ' + b"[" * 10**4, b"[]\n" * 99])
def test_a_cache_that_is_none_is_ignored(content, tmp_path):
    made = Made(tmp_path / "set")
    (tmp_path / FACTS_FILE).write_bytes(content)
    assert len(list(facts_of_all(samples(made), Cache(tmp_path / FACTS_FILE), workers=0))) == 6


def test_processes_find_the_same(tmp_path):
    made = Made(tmp_path / "set")
    here = list(facts_of_all(samples(made) * 4, Cache(None), workers=0))
    assert list(facts_of_all(samples(made) * 4, Cache(None), workers=2)) == here


def test_few_examples_are_kept_and_all_places_written(tmp_path):
    found = Collector(tmp_path)
    for i in range(1000):
        found.add("blank-image", [f"{i}.png"])
    (finding,) = found.findings
    assert finding.count == 1000
    assert len(finding.examples) == 12
    assert [json.loads(line)["files"] for line in found.places("blank-image")] == [[f"{i}.png"] for i in range(1000)]


def test_a_mask_is_a_small_record_whatever_its_values():
    values = np.arange(10**5, dtype=np.int32).reshape(100, 1000)
    facts = mask_facts(values)
    assert facts.distinct == 10**5
    assert len(facts.values) == 256


def test_links_that_multiply_end(tmp_path):
    for i in range(12):
        (tmp_path / f"d{i}").mkdir()
        for j in range(12):
            (tmp_path / f"d{i}" / f"l{j}").symlink_to(f"../d{j}")
    found = Collector()
    scan(tmp_path, found)
    assert "link-loop" in found


@pytest.mark.parametrize("content", [b"[" * 10**6, b"\xff\xfe" + b"[\0" * 10**5, b'{"classes": ' + b"9" * 10**5 + b"}"])
def test_a_list_of_classes_may_be_anybodys(content, tmp_path):
    (tmp_path / "classes.json").write_bytes(content)
    found = Collector()
    assert read_class_list(tmp_path, found) is None
    assert found.findings


@pytest.mark.parametrize("make_folder", [False, True])
def test_classes_that_no_file_names_are_taken_from_the_masks(tmp_path, semask, make_folder):
    made = Made(tmp_path / "set")
    (made.root / "classes.json").unlink()
    if make_folder:
        (made.root / "classes.json").mkdir()
    said = semask("doctor", made.root, "--out", tmp_path / "out", "--workers", 0).out
    assert "classes-unnamed" in said


def test_cells_of_a_table_are_looked_at_and_copied(tmp_path):
    made = Made(tmp_path / "set")
    BROKEN["in both splits"][2](made)
    BROKEN["truncated mask"][2](made)
    RIGHT["cells of a table"](made)
    outcome = doctor({"root": str(made.root)}, out=tmp_path / "out", fix=tmp_path / "copy", workers=0)
    found = {each.name: each.examples[0].files for each in outcome.findings}
    assert found["shared-image"][0].endswith("train-00000-of-00001.parquet/row-0")
    assert outcome.page.read_text().count("<img") > 4
    data = Data(root=str(tmp_path / "copy"))
    assert sum(data.dataset(split).check().masks for split in ("train", "val")) == 5


def test_parts_of_large_images_are_told_apart(tmp_path):
    made = Made(tmp_path / "set")
    RIGHT["parts of large images"](made)
    data = Data(root=str(made.root), **made.options)
    samples = samples_of("train", data.dataset("train"), made.root)
    assert len({key_of(sample) for sample in samples}) == len(samples) == 16
    here = list(facts_of_all(samples, Cache(None), workers=0))
    assert list(facts_of_all(samples, Cache(None), workers=1)) == here
    assert {facts.image.stored for facts in here} == {(40, 48)}
    assert len({facts.image_pixels.digest for facts in here}) == 16
    with pytest.raises(ValueError, match="a copy is written of photos only"):
        doctor({"root": str(made.root), **made.options}, out=tmp_path / "out", fix=tmp_path / "copy", workers=0)


def test_bands_that_are_damaged_or_blank_are_named(tmp_path):
    made = Made(tmp_path / "set")
    RIGHT["five bands"](made)
    put_bands(made, 1, np.zeros((*made.labels[0].shape, 5), dtype=np.uint16), ".tif")
    path = made.image(2, ".tif")
    path.write_bytes(path.read_bytes()[:4000])
    outcome = doctor({"root": str(made.root)}, out=tmp_path / "out", workers=0)
    found = {each.name: each.examples[0].files for each in outcome.findings}
    assert found["blank-image"] == ("images/train/p1.tif",)
    assert found["corrupt-file"] == ("images/train/p2.tif",)


def test_the_fast_part_ends_in_time(tmp_path, monkeypatch):
    made = Made(tmp_path / "set")
    BROKEN["black"][2](made)
    data = Data(root=str(made.root))
    assert [each.name for each in quick_findings(data)] == ["blank-image"]
    monkeypatch.setattr("semask.doctor.quick.SECONDS", -1.0)
    assert quick_findings(data) == []
    monkeypatch.undo()
    monkeypatch.setattr("semask.doctor.quick.LARGEST", 100)
    assert quick_findings(data) == []
