"""Runs the cases of the judge in plain Python: `python3 test_app.py`.

The modules that componentize-py makes of the contract are stood in for by a few lines, so that the rules can be tried in an
instant. `dlm plugin test rubric.wasm` runs the same cases through the real host.
"""

import json
import math
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace


class Err(Exception):
    def __init__(self, value):
        super().__init__(value)
        self.value = value


def module(name, **members):
    made = sys.modules[name] = ModuleType(name)
    made.__dict__.update(members)
    return made


record = SimpleNamespace
module("componentize_py_types", Err=Err)
module("wit_world.exports.judge", Info=record, Item=record, Verdict=record, Mode=Enum("Mode", "POINTWISE PAIRWISE"))
exports = module("wit_world.exports", Judge=object)
config = module("wit_world.imports.config", Value_Integer=int, get=lambda key: None)
module("wit_world.imports.types", Error_InvalidInput=str, Identity=record)
module("wit_world.imports", config=config)
module("wit_world", exports=exports)

import app  # noqa: E402  (the stand-ins come first)


def matches(part, text):
    """Says whether the pieces of `a*b` follow each other in the text."""
    for piece in part.split("*"):
        before, found, text = text.partition(piece)
        if not found and piece:
            return False
    return True


def holds(expected, found):
    """Says whether what was found has all that is expected."""
    match expected:
        case {"matches": part}:
            return isinstance(found, str) and matches(part, found)
        case dict():
            return isinstance(found, dict) and all(key in found and holds(value, found[key]) for key, value in expected.items())
        case list():
            return len(expected) == len(found) and all(map(holds, expected, found))
        case float() | int():
            return math.isclose(expected, found, rel_tol=1e-9, abs_tol=1e-9)
        case _:
            return expected == found


def run(case):
    judge = app.Judge()
    try:
        judge.open(case.get("arg", ""))
        items = [SimpleNamespace(system=None, reference=None, **item) for item in case["call"]["score"]]
        return {"verdicts": [vars(verdict) for verdict in judge.score(items)]}
    except Err as error:
        return {"error": {"message": error.value}}


files = sorted((Path(__file__).parent / "cases").glob("*.json"))
for file in files:
    case = json.loads(file.read_text())
    found = run(case)
    if not holds(case["expect"], found):
        sys.exit(f"{file.name}: expected {case['expect']}, found {found}")
print(f"{len(files)} cases pass")
