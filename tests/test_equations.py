"""The checks of the equations bite: with a usual slip planted in a formula, the cell that checks it fails.

That every displayed equation has such a cell at all is tested in test_notebooks.py.
"""

import pytest
from slips import SLIPS

from tools import cells as course

pytestmark = pytest.mark.slow

CHECKED = sorted({(name, equation) for name, equation, *_ in SLIPS})


@pytest.mark.parametrize(("name", "equation"), CHECKED)
def test_check_passes_without_a_slip(name, equation):
    course.run_cells(name, course.checking(name, equation))


@pytest.mark.parametrize(
    ("name", "equation", "old", "new"), [slip[:4] for slip in SLIPS], ids=[f"{slip[1]} {slip[4]}" for slip in SLIPS]
)
def test_check_fails_with_a_slip(name, equation, old, new):
    cells = course.checking(name, equation)
    with pytest.raises(AssertionError) as caught:
        course.run_cells(name, cells, {old: new})
    assert caught.value.cell in cells
