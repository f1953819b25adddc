"""{{does}}."""

from checked import explained
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import judge
from wit_world.imports import types


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
