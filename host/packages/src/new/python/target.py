"""{{does}}."""

import functools

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import target
from wit_world.imports import artifacts, output, types


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


NOTE = "NOTE.txt"


class Target(exports.Target):
    @explained
    def open(self, argument):
        """Called once, before anything else."""
        if argument:
            raise Err(types.Error_InvalidInput(f"`{{name}}` takes no argument, found `{argument}`"))
        return target.Info(
            identity=types.Identity(name="{{name}}", detail=None),
            accepts=[artifacts.Kind.GGUF],
            platforms=[],
            programs=[],
        )

    @explained
    def prepare(self, plan):
        """Writes the files of the export."""
        output.write(NOTE, f"{plan.name} at {plan.quant}\n".encode(), False)
        return target.Prepared(
            files=[NOTE],
            entry=None,
            launch=None,
            smoke=target.SmokePlan_Skip("there is nothing to start"),
            install_preview=[],
            usage=[f"read {NOTE}"],
        )

    @explained
    def install(self, plan):
        """Registers the result with the runtime; this one has no register."""
        return None

    @explained
    def smoke(self, plan, endpoint):
        """Asks the started result; `prepare` said that there is nothing to start."""
        raise Err(types.Error_Unsupported("there is nothing to start"))
