"""Holds what each function returns against the contract, so that a slip is named with its place. `dlm plugin new` wrote this file
from `wit/`; nothing in it is yours to change."""

import functools
import json

from componentize_py_types import Err
from wit_world.imports import types

CONTRACT = json.loads(r"""{{shapes}}""")


def explained(function):
    """A Python exception becomes `failed` and says where it was raised, and so does a result of another form than the contract's.
    An `Err` passes as it is."""

    @functools.wraps(function)
    def call(*arguments):
        try:
            result = function(*arguments)
            name = function.__name__.replace("_", "-")
            slip = problem(f"what `{function.__name__}` returned", CONTRACT["results"][name], result)
            if slip:
                raise TypeError(slip)
            return result
        except Err as error:
            slip = problem("the value of `Err`", CONTRACT["error"], error.value)
            if slip:
                raise Err(types.Error_Failed(slip))
            raise
        except Exception as error:
            # `traceback` would read the source files, and a plugin has none.
            lines, step = [f"{type(error).__name__}: {error}"], error.__traceback__.tb_next
            while step:
                code = step.tb_frame.f_code
                lines.append(f"  in {code.co_qualname} ({code.co_filename}:{step.tb_lineno})")
                step = step.tb_next
            raise Err(types.Error_Failed("\n".join(lines)))

    return call


def problem(place, shape, value):
    """What is wrong with a value, with its place; None where nothing is."""
    wrong = lambda wanted: f"{place} is {shown(value)}, {wanted} was expected"
    if shape is None:
        return None if value is None else wrong("None")
    if isinstance(shape, str):
        return None if fits(shape, value) else wrong(WORDS.get(shape, f"an integer ({shape})"))
    ((form, inner),) = shape.items()
    if form == "option":
        return None if value is None else problem(place, inner, value)
    if form == "list":
        if not isinstance(value, list):
            return wrong("a list")
        found = (problem(f"{place}[{at}]", inner, entry) for at, entry in enumerate(value))
    elif form == "record":
        missing = [name for name, _ in inner if not hasattr(value, python(name))]
        if missing:
            return f"{place} is {shown(value)}, without `{python(missing[0])}`"
        found = (problem(f"{place}.{python(name)}", own, getattr(value, python(name))) for name, own in inner)
    elif form == "enum":
        names = [python(name).upper() for name in inner]
        return None if getattr(value, "name", None) in names else wrong(" or ".join(names))
    else:
        name, cases = inner
        known = {f"{pascal(name)}_{pascal(case)}": own for case, own in cases}
        case = type(value).__name__
        if case not in known:
            return wrong("one of " + ", ".join(known))
        found = [problem(f"{place}.value", known[case], value.value)] if known[case] is not None else []
    return next(filter(None, found), None)


WORDS = {"string": "a text", "bytes": "bytes", "bool": "True or False", "float": "a number"}


def fits(word, value):
    if word == "any":
        return True
    if word == "string":
        return isinstance(value, str)
    if word == "bytes":
        return isinstance(value, bytes)
    if word == "bool":
        return isinstance(value, bool)
    if word == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    bits = int(word[1:])
    low, high = (0, 2**bits) if word[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return isinstance(value, int) and not isinstance(value, bool) and low <= value < high


def shown(value):
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def python(name):
    return name.replace("-", "_")


def pascal(name):
    return "".join(part.capitalize() for part in name.split("-"))
