"""{{does}}."""

import functools

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import judge
from wit_world.imports import types


def explained(function):
    """A Python exception becomes `failed` and says where it was raised; an `Err` passes as it is."""

    @functools.wraps(function)
    def call(*arguments):
        try:
            return function(*arguments)
        except Err:
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


class Judge(exports.Judge):
    @explained
    def open(self, argument):
        """Called once, before anything else."""
        if argument:
            raise Err(types.Error_InvalidInput(f"`{{name}}` takes no argument, found `{argument}`"))
        return judge.Info(
            identity=types.Identity(name="{{name}}", detail=None),
            mode=judge.Mode.POINTWISE,
            suggested_threshold=1.0,
            deterministic=True,
            max_batch=64,
        )

    @explained
    def score(self, items):
        """One verdict per item, one score per candidate; higher is better."""
        return [
            judge.Verdict(scores=[-float(len(text.split())) for text in item.candidates], reasoning=None)
            for item in items
        ]
