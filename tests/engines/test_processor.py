import pytest

from semask.engines.processor import default_threads, products_saturate


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


def test_elsewhere_the_safe_answer_is_given(tmp_path, monkeypatch):
    for machine, expected in {"x86_64": True, "AMD64": True, "arm64": False, "aarch64": False}.items():
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert products_saturate(tmp_path / "cpuinfo") is expected


def test_threads(tmp_path, monkeypatch):
    """One a core, of which each is two processors here; OMP_NUM_THREADS decides where it is set."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(4), raising=False)
    file = tmp_path / "cpuinfo"
    file.write_text("".join(f"processor\t: {i}\nphysical id\t: 0\ncore id\t\t: {i // 2}\n\n" for i in range(4)))
    assert default_threads(file) == 2
    assert default_threads(tmp_path / "nothing") == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert default_threads(file) == 3
