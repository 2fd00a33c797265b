import os
import re
import threading

import numpy as np
import pytest
import torch
from exported_files import WEIGHT, WRITERS, K, Q, described, expected, write_int8, write_onnx, write_openvino

from semask import Predictor
from semask.engines import digest
from semask.engines.catalog import companions, is_exported
from semask.engines.formats import onnx as onnx_format
from semask.engines.formats import openvino as openvino_format
from semask.engines.runtime import load_exported


def refused(path, **settings) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        load_exported(path, **settings)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", WRITERS)
def test_scores_of_pixels(tmp_path, name):
    runtime = load_exported(WRITERS[name](tmp_path / name, described()), threads=1)
    for shape in ((1, 3, 32, 64), (2, 3, 41, 55)):
        image = torch.randn(shape)
        output = runtime(image)
        torch.testing.assert_close(output.logits, expected(image), rtol=1e-4, atol=1e-4)
        assert output.padded == shape[-2:]
        assert (output.features, output.priors, output.prior_logits) == ((), (), None)


@pytest.mark.parametrize("name", WRITERS)
def test_masks(tmp_path, name):
    runtime = load_exported(WRITERS[name](tmp_path / name, described(masks=True), masks=True), threads=1)
    assert runtime.makes_masks
    image = torch.randn(1, 3, 40, 64)
    output = runtime(image)
    assert output.prediction.classes.equal(5 * torch.eye(Q, K + 1)[None])
    torch.testing.assert_close(output.prediction.masks[:, :K], expected(image), rtol=1e-4, atol=1e-4)
    assert output.padded == (64, 64)


def test_has_the_face_of_a_model(tmp_path):
    description = described(licence="MIT", step=7)
    runtime = load_exported(write_onnx(tmp_path / "model.onnx", description), threads=1)
    assert runtime.config == description["config"]
    assert runtime.metadata["recipe"]["model"] == runtime.config
    assert (runtime.metadata["licence"], runtime.metadata["step"]) == ("MIT", 7)
    assert not runtime.training
    assert next(runtime.parameters()).device.type == "cpu"
    assert runtime.details["threads"] == 1
    image = np.random.default_rng(0).integers(0, 256, (30, 44, 3), dtype=np.uint8)
    prediction = Predictor(runtime)(image)
    assert prediction.label.shape == (30, 44)
    assert prediction.classes.names == ("class 0", "class 1", "class 2")
    with pytest.raises(ValueError, match="gives no priors"):
        Predictor(runtime)(image, priors=True)
    with pytest.raises(ValueError, match="can't be moved"):
        Predictor(runtime, device="cuda")


def test_the_state_tells_files_apart(tmp_path):
    """What goes on with work that was interrupted asks for it."""
    one = load_exported(write_onnx(tmp_path / "a.onnx", described()))
    same = load_exported(write_onnx(tmp_path / "b.onnx", described()))
    other = load_exported(write_onnx(tmp_path / "c.onnx", described(step=1)))
    assert one.state_dict()["digest"].equal(same.state_dict()["digest"])
    assert not one.state_dict()["digest"].equal(other.state_dict()["digest"])


@pytest.mark.parametrize("name", WRITERS)
def test_threads_may_share_one(tmp_path, name):
    runtime = load_exported(WRITERS[name](tmp_path / name, described()), threads=1)
    images = [torch.randn(1, 3, 32 + 4 * i, 32) for i in range(8)]
    right: list[bool] = []

    def work() -> None:
        right.extend(torch.allclose(runtime(x).logits, expected(x), atol=1e-3) for x in images)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 32


def test_is_exported():
    assert all(is_exported(x) for x in ("a.onnx", "a/b.XML", "x.pt2", "x.engine"))
    assert not any(is_exported(x) for x in ("a.safetensors", "onnx", "owner/name", "runs/model", "a.pt"))


def test_other_files(tmp_path):
    assert "no such file" in refused(tmp_path / "nowhere.onnx")
    assert "not an exported model" in refused(tmp_path / "model.safetensors")
    for name in WRITERS:
        path = tmp_path / name
        path.write_bytes(b"no model at all")
        path.with_suffix(".bin").write_bytes(b"")
        assert re.search("not an ONNX file|not an OpenVINO model", refused(path))


@pytest.mark.parametrize("name", WRITERS)
def test_models_of_others(tmp_path, name):
    assert "not exported by semask" in refused(WRITERS[name](tmp_path / name, None))


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files(tmp_path, name):
    path = WRITERS[name](tmp_path / name, described())
    for kept in (0, 10, path.stat().st_size // 2):
        os.truncate(path, kept)
        refused(path)


def test_openvino_needs_its_weights(tmp_path):
    path = write_openvino(tmp_path / "model.xml", described())
    assert companions(path) == [tmp_path / "model.bin"]
    (tmp_path / "model.bin").unlink()
    with pytest.raises(ValueError, match=r"model\.bin: no such file: it has to lie next to model\.xml"):
        load_exported(path)


@pytest.mark.parametrize("name", WRITERS)
def test_outputs_that_are_not_as_described(tmp_path, name):
    path = WRITERS[name](tmp_path / name, described(), names=("scores",))
    assert "has the outputs scores, but says logits" in refused(path)


def test_the_number_of_classes_has_to_be_the_described_one(tmp_path):
    more = described()
    more["config"] = {**more["config"], "num_classes": K + 1}
    more["classes"] = {"classes": [str(i) for i in range(K + 1)]}
    runtime = load_exported(write_onnx(tmp_path / "model.onnx", more))
    with pytest.raises(ValueError, match=r"gave outputs .* but says that it has 4 classes"):
        runtime(torch.zeros(1, 3, 32, 32))
    runtime = load_exported(write_onnx(tmp_path / "model.onnx", described(masks=True), masks=True))
    with pytest.raises(ValueError, match=r"gave outputs .* for 2 images"):
        runtime(torch.zeros(2, 3, 32, 32))


def test_what_the_engine_can_t_do_is_one_line(tmp_path):
    runtime = load_exported(write_onnx(tmp_path / "model.onnx", described(), channels=5))
    with pytest.raises(ValueError, match=r"model\.onnx: could not segment \[1, 3, 32, 32\]") as caught:
        runtime(torch.zeros(1, 3, 32, 32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.pt2", "model.engine"])
def test_what_runs_code_has_to_be_trusted(tmp_path, name):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save(Evil(), tmp_path / name)
    assert "which could do anything here" in refused(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("device", ["cuda", "tpu"])
def test_devices_that_are_not_there(tmp_path, name, device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    assert "can't run" in refused(WRITERS[name](tmp_path / name, described()), device=device)


def test_threads_are_counted_from_one(tmp_path):
    with pytest.raises(ValueError, match="threads is 0"):
        load_exported(write_onnx(tmp_path / "model.onnx", described()), threads=0)


def test_openvino_computes_in_16_bits_where_it_can(tmp_path):
    path = write_openvino(tmp_path / "model.xml", described(precision="bf16"))
    runtime = load_exported(path)
    assert runtime.details["computes in"] in ("bf16", "f16", "f32")
    assert load_exported(path, precision="fp32").details["computes in"] == "f32"
    image = torch.randn(1, 3, 32, 32)
    assert runtime(image).logits.dtype == torch.float32
    torch.testing.assert_close(runtime(image).logits, expected(image), rtol=0.05, atol=0.2)
    assert load_exported(path, precision="fp32")(image).logits.allclose(expected(image), atol=1e-4)


def outside(path, location: str) -> None:
    """Move the weights of an ONNX file to another one, under any name."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    onnx.save(model, path)


def test_weights_may_lie_next_to_the_file(tmp_path):
    path = write_onnx(tmp_path / "model.onnx", described())
    WEIGHT.numpy().tofile(tmp_path / "model.onnx.data")
    outside(path, "model.onnx.data")
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(load_exported(path)(image).logits, expected(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("location", ["../secret", "folder/../../secret", "ABSOLUTE", "link", "linked/secret"])
def test_weights_outside_the_folder_are_refused(tmp_path, location):
    folder = tmp_path / "folder"
    (folder / "folder").mkdir(parents=True)
    secret = tmp_path / "secret"
    WEIGHT.numpy().tofile(secret)
    (folder / "link").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    path = write_onnx(folder / "model.onnx", described())
    outside(path, str(secret) if location == "ABSOLUTE" else location)
    assert "can't be opened" not in refused(path)  # onnxruntime never saw it


def test_weights_that_are_not_there(tmp_path):
    path = write_onnx(tmp_path / "model.onnx", described())
    outside(path, "model.onnx.data")
    refused(path)


@pytest.mark.parametrize("name", [*WRITERS, "large.onnx"])
def test_damaged_weights_are_refused_when_opened(tmp_path, name):
    room = described(weights_digest=digest.BLANK.decode())
    path = WRITERS.get(name, write_onnx)(tmp_path / name, room)
    if name == "large.onnx":
        WEIGHT.numpy().tofile(tmp_path / "large.onnx.data")
        outside(path, "large.onnx.data")
    files = [path, *companions(path)]
    digest.seal(files)
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(load_exported(path)(image).logits, expected(image), rtol=1e-4, atol=1e-4)
    content = bytearray(files[-1].read_bytes())
    content[content.find(WEIGHT.numpy().tobytes()) + 50] ^= 1
    files[-1].write_bytes(content)
    assert "damaged, or changed after its export" in refused(path)


def test_a_graph_that_could_run_for_ever_is_refused_when_opened(tmp_path):
    onnx = pytest.importorskip("onnx")
    path = write_onnx(tmp_path / "model.onnx", described())
    model = onnx.load(path)
    model.graph.node.append(
        onnx.helper.make_node("Loop", ["turns"], ["y"], body=onnx.helper.make_graph([], "b", [], []))
    )
    onnx.save(model, path)
    assert "loops or branches (Loop)" in refused(path)
    path = write_openvino(tmp_path / "model.xml", described())
    path.write_text(path.read_text(encoding="utf-8").replace('type="Convolution"', 'type="Loop"'), encoding="utf-8")
    assert "loops or branches (Loop)" in refused(path)


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
@pytest.mark.parametrize("widest", [127, 64])
def test_int8_on_a_processor_whose_products_overflow(tmp_path, monkeypatch, recwarn, name, widest):
    """Files of version 0.1 have weights of all 8 bits: exact but slower in onnxruntime, said in OpenVINO."""
    engine = onnx_format if name == "model.onnx" else openvino_format
    monkeypatch.setattr(engine, "products_saturate", lambda: True)
    path = write_int8(tmp_path / name, widest)
    runtime = load_exported(path)
    if name == "model.onnx" or widest == 64:
        assert runtime(torch.ones(1, 3, 4, 4)).logits.allclose(torch.tensor(3.0 * widest / 127), atol=0.05)
    assert ("has no VNNI" in runtime.details.get("remark", "")) is (widest == 127)
    said = [str(x.message) for x in recwarn.list if "VNNI" in str(x.message)]
    assert len(said) == (widest == 127 and name == "model.xml")
    monkeypatch.setattr(engine, "products_saturate", lambda: False)
    assert "remark" not in load_exported(path).details
