import pytest

from semask.checkpoints.places import DEFAULT, EMBEDDED


@pytest.mark.parametrize(("arguments", "expected"), [((), str(EMBEDDED[DEFAULT])), ((DEFAULT,), DEFAULT)])
def test_a_folder_called_as_the_model_in_the_package(semask, tmp_path, monkeypatch, arguments, expected):
    """A folder counts where somebody names it, and not where nobody names a model."""
    pytest.importorskip("fastapi")
    asked = []

    async def run(sources, settings, tokens, origin):
        asked.append({name: source.source for name, source in sources.items()})

    monkeypatch.setattr("semask.serving.server.run", run)
    (tmp_path / DEFAULT).mkdir()
    monkeypatch.chdir(tmp_path)
    semask("serve", *arguments)
    assert asked == [{DEFAULT: expected}]
