"""{{does}}."""

from checked import explained
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import destination
from wit_world.imports import types


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
