"""{{does}}."""

import functools

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import destination
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


class Destination(exports.Destination):
    @explained
    def open(self, rest):
        """Called once, before anything else; `rest` is the text after `{{name}}:`."""
        return destination.Info(
            identity=types.Identity(name="{{name}}", detail=rest),
            # Origins that it will talk to, in grant syntax, such as `http:https://example.com`.
            contacts=[],
            max_bytes=None,
        )

    @explained
    def preview(self, pack, options):
        """What `push` would do, without doing it."""
        return [destination.Step(text=f"send {pack.file_name} ({pack.size} bytes)")]

    @explained
    def push(self, pack, options):
        """Sends the pack: open it with `artifacts.open_input`, send it with `upload.send_file`."""
        raise Err(types.Error_Unsupported("`{{name}}` does not push yet"))
