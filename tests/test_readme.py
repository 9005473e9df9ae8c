"""What the README says is so."""

import re
from pathlib import Path

from programs import quick

from posjax.layers import MODES

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_padding_table_lists_every_mode_once_with_its_diagram():
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", README, re.MULTILINE)
    assert tuple(mode for mode, _ in rows) == MODES
    assert all("1234" in diagram for _, diagram in rows)


def test_the_first_lines_of_python_run_and_find_the_position(capsys):
    block = re.search(r"## From Python\n\n```python\n(.*?)```", README, re.DOTALL)[1]
    assert len([line for line in block.splitlines() if line]) <= 10
    small = block.replace("vgg16", "vgg8_bn_quarter").replace("(8, 224, 224, 3)", "(8, 64, 64, 3)")
    assert small.count("64") == 2
    with quick():
        exec(compile(small, "README.md", "exec"), {})
    printed = [float(number) for number in re.findall(r"-?\d+\.\d+", capsys.readouterr().out)]
    assert len(printed) == 8
    assert all(-1 <= number <= 1 for number in printed)


def test_pictures_are_there_and_small():
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert 0 < (Path(__file__).parents[1] / picture).stat().st_size < 300_000
