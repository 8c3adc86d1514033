"""Every operation that an exported file may have has a file of tests, and each of these asserts the same of it."""

import ast
from pathlib import Path

import pytest

from tflite_export.ops.registry import OPERATIONS

FILES = {path.name.removesuffix("_test.py"): path for path in Path(__file__).with_name("ops").glob("*_test.py")}
COMPUTES = "test_litert_computes_the_same_integers"
LOWERS = "test_models_with_it_are_exact_and_close_to_the_float_model"


def test_every_operation_has_a_file():
    assert FILES.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("kind", FILES)
def test_its_file_asserts_what_the_contract_asks_for(kind):
    tree = ast.parse(FILES[kind].read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {COMPUTES, LOWERS} <= functions
    named = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    assert ast.literal_eval(named["KIND"]) == kind
