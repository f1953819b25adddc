// {{does}}.
package export_dlm_plugin_destination

import (
	"strconv"

	destination "{{module}}/bindings/dlm_plugin_destination"
	types "{{module}}/bindings/dlm_plugin_types"
	wit "go.bytecodealliance.org/pkg/wit/types"
)

// Open is called once, before anything else; `rest` is the text after `{{name}}:`.
func Open(rest string) wit.Result[destination.Info, types.Error] {
	return wit.Ok[destination.Info, types.Error](destination.Info{
		Identity: types.Identity{Name: "{{name}}", Detail: wit.Some(rest)},
		// Origins that it will talk to, in grant syntax, such as `http:https://example.com`.
		Contacts: nil,
	})
}

// Preview says what `Push` would do, without doing it.
func Preview(pack destination.Pack, _ destination.Options) wit.Result[[]destination.Step, types.Error] {
	size := strconv.FormatUint(pack.Size, 10)
	step := destination.Step{Text: "send " + pack.FileName + " (" + size + " bytes)"}
	return wit.Ok[[]destination.Step, types.Error]([]destination.Step{step})
}

// Push sends the pack: open it with `OpenInput` of dlm_plugin_artifacts, send it with `SendFile` of dlm_plugin_upload.
func Push(_ destination.Pack, _ destination.Options) wit.Result[destination.Receipt, types.Error] {
	return wit.Err[destination.Receipt](types.MakeErrorUnsupported("`{{name}}` does not push yet"))
}
