from __future__ import annotations

import pytest
from support.handmade import Op
from support.op_cases import DOUBTS, EDGETPU, GPU, image, judged, unary

from effkeras import EffkerasError
from export.preflight.rules import RULES
from export.preflight.tables import TARGETS, table_of


@pytest.mark.parametrize("case", EDGETPU + GPU, ids=lambda case: case.label)
def test_an_operator_that_breaks_a_rule_does_not_map(case):
    assert judged(case.keeps, case.target).status == "maps"
    broken = judged(case.breaks, case.target)
    assert (broken.op, broken.status) == (case.op, "does not map")
    assert case.why in broken.why


@pytest.mark.parametrize("case", DOUBTS, ids=lambda case: case.label)
def test_what_nobody_documents_is_in_doubt_and_counts_as_mapped(case):
    assert judged(case.keeps, case.target).status == "maps"
    broken = judged(case.breaks, case.target)
    assert (broken.op, broken.status, broken.on_device) == (case.op, "may not map", True)
    assert case.why in broken.why


def test_every_rule_has_a_case():
    tried = {case.rule for case in (*EDGETPU, *DOUBTS, *GPU)}
    assert set(RULES) <= tried


@pytest.mark.parametrize("target", TARGETS)
def test_an_operator_that_no_table_lists_does_not_map(target):
    for op in (unary("NON_MAX_SUPPRESSION_V5"), Op("TFLite_Detection_PostProcess", [image()], [image()])):
        assert (judged(op, target).status, judged(op, target).why) == (
            "does not map",
            "operator not supported",
        )


def test_a_custom_operator_does_not_pass_for_the_builtin_of_its_name():
    named = Op("CONV_2D_", [image()], [image()])
    assert judged(named, "edgetpu").is_custom
    assert not judged(named, "edgetpu").on_device


@pytest.mark.parametrize("target", TARGETS)
def test_every_rule_names_a_source_with_an_address(target):
    table = table_of(target)
    used = {rule.source for rules in (table.everywhere, *table.operators.values()) for rule in rules}
    assert used | {"list"} == set(table.sources)
    assert all(source.url.startswith("https://") for source in table.sources.values())


def test_every_operator_of_the_tables_is_in_the_schema():
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    for target in TARGETS:
        assert set(table_of(target).operators) <= set(vars(BuiltinOperator))


def test_there_is_no_table_of_other_devices():
    with pytest.raises(EffkerasError, match="did you mean 'edgetpu'"):
        table_of("edgetpus")
