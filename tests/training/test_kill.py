import shutil

import pytest
from kill import EARLIER, STATE, Kill, differences, disturbed, require_whole, run, undisturbed

from semask.synthetic.dataset import write_synthetic


@pytest.mark.slow
def test_killed_runs_end_as_if_they_had_not_been(tmp_path):
    for _, found in run(kills=6, seed=7, folder=tmp_path):
        assert found == []


@pytest.mark.slow
def test_the_checks_find_what_a_kill_could_do(tmp_path):
    scenes = write_synthetic(tmp_path / "scenes", train=6, val=3, size=(48, 64))
    settings: dict[str, object] = {"steps": 2, "save_every": 1, "evaluate_every": 2}
    whole = undisturbed(scenes, tmp_path / "whole" / "run", settings)
    assert whole.calls > 40
    out = tmp_path / "killed" / "run"
    assert disturbed(scenes, out, settings, [Kill(whole.calls // 2, 0.0)]) == 1
    assert differences(whole.out, out) == []
    with open(out / "log.csv", "a", encoding="utf-8") as file:
        file.write("3,")
    with open(out / "last.safetensors", "rb+") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    assert differences(whole.out, out) == ["last.safetensors", "log.csv"]
    with pytest.raises(ValueError, match="damaged"):
        require_whole(out)
    (out / "last.safetensors").unlink()
    for name in (STATE, EARLIER):
        shutil.rmtree(out / name)
    with pytest.raises(AssertionError, match="without a state"):
        require_whole(out)
