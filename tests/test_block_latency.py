from __future__ import annotations

import pytest

from effkeras import EffkerasError
from effkeras.support.measurements import (
    WHOLE_NETWORK,
    BlockLatency,
    BlockShape,
    BlockTable,
    read_blocks,
    write_blocks,
)

STAGE = "r1_k3_s2_e6_i16_o24"
TABLE = BlockTable(
    "efficientnet-lite0",
    "int8.tflite",
    {"XNNPACK": "some CPU"},
    {"ai-edge-litert": "2.3.0"},
    50,
    (
        BlockShape("stem", "int8", ((1, 32, 32, 3),), ((1, 16, 16, 16),), 2, 1000),
        BlockShape("block0", "int8", ((1, 16, 16, 16),), ((1, 8, 8, 24),), 4, 2000, STAGE),
    ),
    (
        BlockLatency("stem", "XNNPACK", 1, 0.5, 0.6, 0.6, 0.9),
        BlockLatency("block0", "XNNPACK", 1, 1.5, 1.6, 1.6, 1.9),
        BlockLatency(WHOLE_NETWORK, "XNNPACK", 1, 2.0, 2.0, 2.0, 2.5),
        BlockLatency("block0", "phone NNAPI", 1, 0.1, 0.2),
    ),
)
SETTING = ("XNNPACK", 1)


def test_a_table_is_read_as_it_was_written(tmp_path):
    write_blocks(tmp_path / "blocks.toml", TABLE)
    assert read_blocks(tmp_path / "blocks.toml") == TABLE


def test_a_block_is_found_by_its_string_its_input_and_the_setting():
    assert TABLE.find(STAGE, (1, 16, 16, 16), SETTING) == TABLE.latencies[1]
    assert TABLE.find(STAGE, [1, 16, 16, 16], ("phone NNAPI", 1)) == TABLE.latencies[3]
    assert TABLE.find(STAGE, (1, 32, 32, 16), SETTING) is None
    assert TABLE.find("r1_k5_s2_e6_i16_o24", (1, 16, 16, 16), SETTING) is None
    assert TABLE.find(STAGE, (1, 16, 16, 16), ("XNNPACK", 2)) is None


def test_the_blocks_are_compared_with_the_whole():
    assert TABLE.coverage(SETTING) == pytest.approx(1.1)
    assert TABLE.coverage(("phone NNAPI", 1)) is None
    assert TABLE.settings() == [SETTING, ("phone NNAPI", 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schema = 9", "no table of block latencies"),
        ("", "no table of block latencies"),
        ("schema = [", "not valid TOML"),
        ('schema = 1\nmodel = "a"', "is missing"),
    ],
)
def test_something_else_is_an_error(tmp_path, text, message):
    (tmp_path / "other.toml").write_text(text)
    with pytest.raises(EffkerasError, match=message):
        read_blocks(tmp_path / "other.toml")


def test_a_missing_table_is_an_error(tmp_path):
    with pytest.raises(EffkerasError, match="cannot read"):
        read_blocks(tmp_path / "nosuch.toml")
