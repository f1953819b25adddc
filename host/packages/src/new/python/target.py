"""{{does}}."""

from checked import explained
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import target
from wit_world.imports import artifacts, output, types


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
