"""Runs the cases in plain Python, before anything is built: a mistake shows in a moment, with its own traceback.

What a case expects is compared by `dlm plugin test`; a case that needs the host is left to it too."""

import json
import pathlib
import subprocess
import sys
import traceback
import types

HERE = pathlib.Path(__file__).resolve().parent
BINDINGS = HERE / "build" / "plain"
if not BINDINGS.is_dir():
    BINDINGS.parent.mkdir(exist_ok=True)
    bindings = ["componentize-py", "-d", HERE / "wit", "-w", "{{world}}", "bindings", BINDINGS]
    subprocess.run(bindings, check=True)
sys.path[:0] = [str(HERE), str(BINDINGS)]

import app
import checked
from componentize_py_types import Err


def filled(shape, value):
    """A value of a case as the host would hand it over; what the case leaves out is empty."""
    if isinstance(shape, str):
        empty = {"string": "", "bytes": b"", "bool": False, "float": 0.0}.get(shape, 0)
        return empty if value is None else value
    if shape is None:
        return None
    ((form, inner),) = shape.items()
    if form == "option":
        return None if value is None else filled(inner, value)
    if form == "list":
        return [filled(inner, entry) for entry in value or []]
    if form == "record":
        stated = value or {}
        return types.SimpleNamespace(**{checked.python(name): filled(own, stated.get(name)) for name, own in inner})
    return types.SimpleNamespace(name=value, value=value)


def main():
    plugin = getattr(app, "{{Kind}}")
    broken = 0
    for path in sorted((HERE / "cases").glob("*.json")):
        case = json.loads(path.read_text())
        if any(case.get("host", {}).values()):
            continue
        own = plugin()
        calls = [("open", case.get("arg", "")), *case["call"].items()]
        for name, value in calls:
            # The first argument is the one that a case states.
            shapes = checked.CONTRACT["arguments"][name]
            given = [filled(shape, value if at == 0 else None) for at, (_, shape) in enumerate(shapes)]
            function = getattr(type(own), name.replace("-", "_"))
            try:
                result = getattr(function, "__wrapped__", function)(own, *given)
                slip = checked.problem(f"what `{name}` returned", checked.CONTRACT["results"][name], result)
                if slip:
                    raise TypeError(slip)
            except (Err, NotImplementedError):
                # An error of the contract is for the case to expect; the host is not here.
                break
            except Exception:
                broken += 1
                print(f"{path.name}: `{name}` broke down", file=sys.stderr)
                traceback.print_exc()
                break
    return 1 if broken else 0


sys.exit(main())
