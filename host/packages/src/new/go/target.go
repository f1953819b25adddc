// {{does}}.
package export_dlm_plugin_target

import (
	artifacts "{{module}}/bindings/dlm_plugin_artifacts"
	output "{{module}}/bindings/dlm_plugin_output"
	target "{{module}}/bindings/dlm_plugin_target"
	types "{{module}}/bindings/dlm_plugin_types"
	wit "go.bytecodealliance.org/pkg/wit/types"
)

const note = "NOTE.txt"

// Open is called once, before anything else.
func Open(argument string) wit.Result[target.Info, types.Error] {
	if argument != "" {
		return wit.Err[target.Info](types.MakeErrorInvalidInput("`{{name}}` takes no argument, found `" + argument + "`"))
	}
	return wit.Ok[target.Info, types.Error](target.Info{
		Identity: types.Identity{Name: "{{name}}"},
		Accepts:  []artifacts.Kind{artifacts.KindGguf},
	})
}

// Prepare writes the files of the export.
func Prepare(plan target.Plan) wit.Result[target.Prepared, types.Error] {
	written := output.Write(note, []byte(plan.Name+" at "+plan.Quant+"\n"), false)
	if written.IsErr() {
		return wit.Err[target.Prepared](written.Err())
	}
	return wit.Ok[target.Prepared, types.Error](target.Prepared{
		Files: []string{note},
		Smoke: target.MakeSmokePlanSkip("there is nothing to start"),
		Usage: []string{"read " + note},
	})
}

// Install registers the result with the runtime; this one has no register.
func Install(_ target.Plan) wit.Result[wit.Option[target.Registration], types.Error] {
	return wit.Ok[wit.Option[target.Registration], types.Error](wit.None[target.Registration]())
}

// Smoke asks the started result; `Prepare` said that there is nothing to start.
func Smoke(_ target.Plan, _ wit.Option[target.Endpoint]) wit.Result[target.SmokeReport, types.Error] {
	return wit.Err[target.SmokeReport](types.MakeErrorUnsupported("there is nothing to start"))
}
