"""Nothing that a name holds reaches the terminal as more than text."""

import io

import pytest
from rich.table import Table

from autofocus_jax.command.console import Screen
from autofocus_jax.command.main import main
from autofocus_jax.machine.terminal import printable

NAMES = {
    "plain ü": "plain ü",
    "a\x1b[2Jb": r"a\x1b[2Jb",
    "line\nbreak\r": r"line\nbreak\r",
    "caf\udce9.jpg": r"caf\xe9.jpg",  # Latin-1 on the disk
    "\ud800": r"\ud800",
    "turned\u202egpj.exe": r"turned\u202egpj.exe",
    "c1\x9b31m": r"c1\x9b31m",
    "light [red]": "light [red]",
    "cat[/b]": "cat[/b]",
    ":cat:": ":cat:",
}


@pytest.mark.parametrize(("name", "shown"), NAMES.items())
def test_names_are_shown_in_one_line(name, shown, capsys):
    assert printable(name) == shown
    file = io.StringIO()
    console = Screen(file=file)
    console.say(f"file {name} 12")
    assert file.getvalue() == f"file {shown} 12\n"
    table = Table(name, title=name)
    table.add_row(name)
    console.print(table)
    console.print(name, soft_wrap=True)
    assert all(one.isprintable() or one == "\n" for one in file.getvalue())
    assert main(["inspect", f"no such {name}"]) == 1
    assert f"no such {shown}" in capsys.readouterr().err
