from semask.commands.console import track, warn


def test_warnings_are_printed_once_and_nothing_is_markup(capsys):
    warn(["class [/b]\x1b[31m", None, "class [/b]\x1b[31m", "another"])
    assert capsys.readouterr().err.splitlines() == ["warning: class [/b]?[31m", "warning: another"]


def test_a_bar_gives_the_items_on_and_its_text_is_no_markup(capsys):
    assert list(track(iter([1, 2, 3]), "Checking [/b]\x1b[31m", 3)) == [1, 2, 3]
    assert "\x1b[31m" not in capsys.readouterr().err
