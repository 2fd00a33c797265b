import json

import pytest
import torch
from small_models import small

from semask.engines import digest
from semask.engines.format import Request
from semask.engines.formats import onnx, openvino

pytest.importorskip("onnx")
pytest.importorskip("openvino")

SAMPLE = torch.zeros(1, 3, 64, 96)
DESCRIPTION = {"word": 'Straße, "weights_digest": "' + 64 * "1" + '"'}


@pytest.fixture(scope="module", params=[("model.onnx", onnx), ("model.xml", openvino)], ids=["onnx", "openvino"])
def saved(request, tmp_path_factory):
    """Files of a small model, and what checks them; to be left as they were."""
    name, exporter = request.param
    model = small(num_classes=2, channels=8)
    files = exporter.save(Request(model, tmp_path_factory.mktemp("saved") / name, SAMPLE, metadata=DESCRIPTION))
    return files, exporter.check_file


def test_a_flipped_bit_anywhere_is_noticed(saved):
    files, check = saved
    check(files[0])
    for path in files:
        content = path.read_bytes()
        name = content.rfind(digest.NAME.encode())  # without its name there is no digest, as in files of 0.1
        step = len(content) // 40 + 1
        for position in (0, *range(7, len(content), step), len(content) - 1):
            if path == files[0] and name <= position < name + len(digest.NAME) + 20:
                continue
            damaged = bytearray(content)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"damaged|not an|never have|wants to read") as caught:
                check(files[0])
            assert "\n" not in str(caught.value)
        path.write_bytes(content)
    check(files[0])


def test_bytes_that_are_missing_or_too_many_are_noticed(saved):
    files, check = saved
    content = files[-1].read_bytes()
    for other in (content[:-1], content + b"\0", b""):
        files[-1].write_bytes(other)
        with pytest.raises(ValueError, match=r"damaged|not an"):
            check(files[0])
    files[-1].write_bytes(content)


def test_files_without_one_pass(tmp_path):
    for content in (b"", b"weights_digest", b'"weights_digest": "123"', b'{"weights": 1}'):
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        digest.check([path])
        with pytest.raises(ValueError, match="no room for a digest"):
            digest.seal([path])


def test_it_is_of_all_files_in_their_order(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(digest.blank(json.dumps({"classes": ["Straße"]})), encoding="utf-8")
    two.write_bytes(bytes(3 * 2**20))
    digest.seal([one, two])
    digest.check([one, two])
    assert json.loads(one.read_text(encoding="utf-8"))["classes"] == ["Straße"]
    two.write_bytes(bytes(3 * 2**20 - 1) + b"\1")
    with pytest.raises(ValueError, match=r"one: damaged, or changed after its export \(the digest of one, two is not"):
        digest.check([one, two])
