"""{{does}}."""

import functools

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import teacher
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


class Teacher(exports.Teacher):
    @explained
    def open(self, argument):
        """Called once for each worker, before anything else."""
        if argument:
            raise Err(types.Error_InvalidInput(f"`{{name}}` takes no argument, found `{argument}`"))
        return teacher.Info(
            identity=types.Identity(name="{{name}}", detail=None),
            supports_seed=False,
            max_concurrency=1,
        )

    @explained
    def complete(self, request):
        """One answer to one prompt."""
        return teacher.Completion(
            text=f"You asked: {request.user}",
            truncated=False,
            usage=teacher.Usage(prompt_tokens=0, completion_tokens=0, requests=1),
        )
