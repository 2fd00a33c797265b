"""What is answered is what `semask predict` writes, integer for integer."""

import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from exported_files import described, write_onnx, write_openvino
from PIL import Image
from servers import picture, running

import semask as package
from semask.builder import build
from semask.checkpoints.saving import save
from semask.serving.formats import FORMS


@pytest.fixture(scope="module")
def written(trained, photo, tmp_path_factory):
    """What semask predict writes of the photo."""
    out = tmp_path_factory.mktemp("written")
    (out / "photo.png").write_bytes(photo)
    (result,) = package.predict(
        trained, out / "photo.png", out=out / "out", write=["mask", "json", "coco", "labelme"], device="cpu"
    )
    assert result.failure is None
    return out / "out"


def test_png(post, photo, written):
    answer = post(photo, format="png")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == (written / "photo.png").read_bytes()  # the palette too


def test_npy(post, photo, written):
    label = np.load(io.BytesIO(post(photo, format="npy").content), allow_pickle=False)
    assert label.dtype == np.uint8
    assert np.array_equal(label, np.array(Image.open(written / "photo.png")))


def test_json(post, photo, written):
    found = post(photo).json()
    expected = json.loads((written / "photo.json").read_text())
    rows = [{name: row[name] for name in ("id", "name", "pixels", "share")} for row in found["classes"]]
    assert rows == [{name: row[name] for name in ("id", "name", "pixels", "share")} for row in expected["classes"]]
    assert (found["height"], found["width"]) == (48, 64)
    assert found["ignored_pixels"] == expected["ignored_pixels"]
    assert set(found["seconds"]) == {"body", "decode", "queue", "compute"}


def test_rle(post, photo, written):
    found = post(photo, format="rle").json()
    expected = json.loads((written / "coco" / "annotations.json").read_text())
    assert found["annotations"] == expected["annotations"]
    assert found["categories"] == expected["categories"]


def test_labelme(post, photo, written):
    found = post(photo, format="labelme").json()
    expected = json.loads((written / "labelme" / "photo.json").read_text())
    assert found | {"imagePath": ""} == expected | {"imagePath": ""}


def test_polygons_give_the_label_map_back(post, photo, written):
    from rasterio.features import rasterize

    found = post(photo, format="polygons").json()
    shapes = [(x["geometry"], x["properties"]["id"]) for x in found["features"]]
    label = rasterize(shapes, out_shape=(found["height"], found["width"]), fill=255, dtype=np.uint8)
    assert np.array_equal(label, np.array(Image.open(written / "photo.png")))


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("image/png", "image/png"),
        ("text/html, image/*;q=0.8, */*;q=0.1", "image/png"),
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json;q=0, application/x-npy", "application/x-npy"),
    ],
)
def test_accept(post, photo, accept, media):
    assert post(photo, headers={"Accept": accept}).headers["content-type"] == media


def test_nothing_acceptable(post, photo):
    answer = post(photo, headers={"Accept": "text/html"})
    assert answer.status_code == 406
    assert answer.json()["error"]["code"] == "not_acceptable"


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (33, 47)])
def test_odd_sizes(post, trained, size):
    image = picture(size)
    label = np.load(io.BytesIO(post(image, format="npy").content))
    expected = package.Predictor(package.load(trained))(Image.open(io.BytesIO(image)))
    assert np.array_equal(label, expected.label)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_kind_of_image(post, trained, tmp_path, mode):
    format = "TIFF" if mode == "CMYK" else "PNG"
    image = Image.open(io.BytesIO(picture((40, 56)))).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.array(image).astype(np.uint16) * 257)
    image.save(tmp_path / "image", format)
    label = np.load(io.BytesIO(post((tmp_path / "image").read_bytes(), format="npy").content))
    assert np.array_equal(label, package.Predictor(package.load(trained))(tmp_path / "image").label)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_pictures_in_a_file_it_takes_what_predict_takes(post, trained, tmp_path, format):
    frames = [Image.open(io.BytesIO(picture((40, 56), seed=seed))) for seed in range(3)]
    frames[0].save(tmp_path / "film", format, save_all=True, append_images=frames[1:])
    answer = post((tmp_path / "film").read_bytes(), format="npy")
    try:
        expected = package.Predictor(package.load(trained))(tmp_path / "film").label
    except ValueError:
        assert answer.status_code == 422
    else:
        assert np.array_equal(np.load(io.BytesIO(answer.content)), expected)


@pytest.mark.parametrize("count", [2, 255])
def test_the_fewest_classes_and_the_most_with_the_longest_names(tmp_path, photo, count):
    names = [f"{number:03}" + "\U0001f6b2" * 197 for number in range(count)]
    model = build("swin_nano", num_classes=count, channels=8)
    path = save(tmp_path / "mine.safetensors", model, {"classes": package.Classes(tuple(names)).as_dict()})
    with running({"mine": path}) as server, server.client(headers={"Content-Type": "image/png"}) as client:
        assert [row["name"] for row in client.get("/v1/models/mine").json()["classes"]] == names
        for form in FORMS:
            answer = client.post("/v1/models/mine/predict", content=photo, params={"format": form})
            assert answer.status_code == 200, answer.text
        assert package.Client(server.address).predict(photo).classes.names == tuple(names)


def test_an_image_that_is_stored_turned(post, trained, tmp_path):
    image = Image.open(io.BytesIO(picture((40, 56))))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    label = np.load(io.BytesIO(post((tmp_path / "turned.jpg").read_bytes(), format="npy").content))
    assert label.shape == (56, 40)
    assert np.array_equal(label, package.Predictor(package.load(trained))(tmp_path / "turned.jpg").label)


def test_places_without_data_are_ignored(post, trained, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pixels = np.array(Image.open(io.BytesIO(picture((40, 56))))).transpose(2, 0, 1)
    pixels[:, :9] = 0
    place = rasterio.transform.from_origin(400_000, 5_000_000, 0.5, 0.5)
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", dtype="uint8", count=3, height=40, width=56, nodata=0,
        photometric="rgb", crs="EPSG:32633", transform=place,
    ) as file:  # fmt: skip
        file.write(pixels)
    (result,) = package.predict(trained, tmp_path / "scene.tif", device="cpu")
    label = np.load(io.BytesIO(post((tmp_path / "scene.tif").read_bytes(), format="npy").content))
    assert (label[:9] == 255).all()
    assert np.array_equal(label, result.prediction.label)


def test_tiles(post, trained, tmp_path):
    pytest.importorskip("rasterio")
    (tmp_path / "large.png").write_bytes(picture((300, 420)))
    (result,) = package.predict(
        trained, tmp_path / "large.png", out=tmp_path / "out", write=["mask"], tile=256, overlap=128, device="cpu"
    )
    answer = post((tmp_path / "large.png").read_bytes(), tile=256, format="npy")
    assert np.array_equal(np.load(io.BytesIO(answer.content)), np.array(Image.open(result.mask)))
    refused = post(picture((48, 64)), tile=100)
    assert refused.status_code == 422
    assert "give 256 or more" in refused.json()["error"]["message"]


def test_images_of_one_size_go_together(served, trained):
    """Each gets its own answer, the one that it gets alone."""
    images = [picture((48, 64), seed=seed) for seed in range(12)] + [picture((40, 64), seed=seed) for seed in range(4)]
    predictor = package.Predictor(package.load(trained))
    expected = [predictor(Image.open(io.BytesIO(image))).label for image in images]

    def ask(image):
        with served.client() as client:
            head = {"Content-Type": "image/png"}
            return client.post("/v1/models/mine/predict?format=npy", content=image, headers=head)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, images))
    for answer, label in zip(answers, expected, strict=True):
        assert answer.status_code == 200
        assert np.array_equal(np.load(io.BytesIO(answer.content)), label)


@pytest.mark.parametrize("write", [write_onnx, write_openvino])
def test_a_model_of_another_engine(write, photo, tmp_path):
    path = write(tmp_path / ("model.onnx" if write is write_onnx else "model.xml"), described())
    (tmp_path / "photo.png").write_bytes(photo)
    (result,) = package.predict(path, tmp_path / "photo.png")
    with running({"other": path}) as server, server.client() as client:
        head = {"Content-Type": "image/png"}
        answer = client.post("/v1/models/other/predict?format=npy", content=photo, headers=head)
        assert np.array_equal(np.load(io.BytesIO(answer.content)), result.prediction.label)
        address = "/v1/models/other/predict?format=npy&tile=256"
        tiled = client.post(address, content=picture((300, 300)), headers=head)
        assert np.load(io.BytesIO(tiled.content)).shape == (300, 300)
