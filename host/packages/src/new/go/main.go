// {{does}}; the plugin itself is in export_dlm_plugin_{{kind}}.
package main

import _ "{{module}}/bindings/wit_exports"

// A plugin is called function by function; nothing runs by itself.
func main() {}
