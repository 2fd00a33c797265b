import pytest
from rank_kills import run


def test_two_killed_processes(tmp_path):
    found = list(run(2, seed=1, folder=tmp_path))
    assert len(found) == 2
    assert all(killed.said for killed in found)


@pytest.mark.slow
def test_twenty_killed_processes(tmp_path):
    assert len(list(run(20, seed=0, folder=tmp_path))) == 20
