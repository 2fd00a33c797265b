import pytest

from semask.engines.processor import products_saturate


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu sse2 ssse3 sse4_1 avx avx2 fma", True),
        ("flags\t\t: fpu sse2 ssse3 avx2 avx512f avx512bw", True),
        ("flags\t\t: fpu sse2 ssse3 avx2 avx_vnni", False),
        ("flags\t\t: fpu sse2 ssse3 avx2 avx512f avx512_vnni amx_int8", False),
        ("Features\t: fp asimd asimddp i8mm", False),
        ("", False),
    ],
)
def test_processors(flags, expected, tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\nmodel name\t: one\n{flags}\n\nprocessor\t: 1\n{flags}\n")
    assert products_saturate(file) is expected


def test_elsewhere_torch_is_asked(tmp_path):
    assert isinstance(products_saturate(tmp_path / "cpuinfo"), bool)
