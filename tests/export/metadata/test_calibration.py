from __future__ import annotations

import pytest

from effkeras import EffkerasError
from export.metadata.associated_files import calibration_file, read_calibration


@pytest.mark.parametrize(
    ("content", "made"),
    [
        (b"1,2,3\n0.5,-2,.5,1e-3", b"1,2,3\n0.5,-2,.5,1e-3"),
        (b"1,2,3\n1,2,3\n", b"1,2,3\n1,2,3"),
        (b"\xef\xbb\xbf1, 2, 3\r\n1,2,3\r\n", b"1, 2, 3\n1,2,3"),
        (b"\n1,2,3\n", b"\n1,2,3"),
        (b"1,2,3\n", b"1,2,3\n"),
        (b"1,2,3\n\n", b"1,2,3\n"),
    ],
)
def test_there_is_a_line_for_each_class_between_the_line_breaks(content, made):
    assert calibration_file(content, 2, "c.csv") == made
    assert calibration_file(made, 2, "c.csv") == made
    assert len(made.split(b"\n")) == 2  # which is how MediaPipe counts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1,2,3", "c.csv: 1 lines for 2 classes; give a line for each"),
        (b"1,2,3\n\n1,2,3\n", "c.csv: 3 lines for 2 classes"),
        (b"", "c.csv: 0 lines for 2 classes"),
        (b"\n", "c.csv: all lines are empty"),
        (b"1,2,3\n1,2", "c.csv, line 2 has 2 values; give scale, slope, offset"),
        (b"1,2,3\n1;2;3", "c.csv, line 2 has 1 values"),
        (b"a,2,3\n1,2,3", "c.csv, line 1: 'a' is not a number"),
        (b"1,2,nan\n1,2,3", "c.csv, line 1: 'nan' is not a number"),
        (b"1,2,\n1,2,3", "c.csv, line 1: '' is not a number"),
        (b"1,2,3\n-1,2,3", "c.csv, line 2: the scale -1 is below 0"),
        (b"\xff", "c.csv is not UTF-8 text"),
    ],
)
def test_what_is_no_calibration_is_told_by_its_line(content, message):
    with pytest.raises(EffkerasError, match=message):
        calibration_file(content, 2, "c.csv")


def test_no_file(tmp_path):
    with pytest.raises(EffkerasError, match="cannot read"):
        read_calibration(tmp_path / "nosuch.csv", 2)
