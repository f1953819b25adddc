// {{does}}.

#include <stdlib.h>
#include <string.h>

#include "{{bindings}}.h"

typedef {{bindings}}_string_t text;

#define NOTE "NOTE.txt"

// A copy of three texts, which the host frees.
static text joined(const char *start, text rest, const char *end) {
  size_t a = strlen(start), b = strlen(end);
  text made = {.ptr = malloc(a + rest.len + b), .len = a + rest.len + b};
  memcpy(made.ptr, start, a);
  memcpy(made.ptr + a, rest.ptr, rest.len);
  memcpy(made.ptr + a + rest.len, end, b);
  return made;
}

// A list of one text.
static {{bindings}}_list_string_t one(const char *line) {
  {{bindings}}_list_string_t list = {.ptr = malloc(sizeof(text)), .len = 1};
  {{bindings}}_string_dup(&list.ptr[0], line);
  return list;
}

// Called once, before anything else.
bool exports_dlm_plugin_target_open(text *argument, exports_dlm_plugin_target_info_t *info, exports_dlm_plugin_target_error_t *error) {
  if (argument->len > 0) {
    error->tag = DLM_PLUGIN_TYPES_ERROR_INVALID_INPUT;
    error->val.invalid_input = joined("`{{name}}` takes no argument, found `", *argument, "`");
    return false;
  }
  memset(info, 0, sizeof *info);
  {{bindings}}_string_dup(&info->identity.name, "{{name}}");
  info->accepts.len = 1;
  info->accepts.ptr = malloc(sizeof *info->accepts.ptr);
  info->accepts.ptr[0] = DLM_PLUGIN_ARTIFACTS_KIND_GGUF;
  return true;
}

// Writes the files of the export.
bool exports_dlm_plugin_target_prepare(exports_dlm_plugin_target_plan_t *plan, exports_dlm_plugin_target_prepared_t *prepared, exports_dlm_plugin_target_error_t *error) {
  text head = joined("", plan->name, " at ");
  text note = {.ptr = malloc(head.len + plan->quant.len + 1), .len = head.len + plan->quant.len + 1};
  memcpy(note.ptr, head.ptr, head.len);
  memcpy(note.ptr + head.len, plan->quant.ptr, plan->quant.len);
  note.ptr[note.len - 1] = '\n';
  text name;
  {{bindings}}_string_set(&name, NOTE);
  {{bindings}}_list_u8_t bytes = {.ptr = note.ptr, .len = note.len};
  bool is_written = dlm_plugin_output_write(&name, &bytes, false, error);
  {{bindings}}_string_free(&head);
  {{bindings}}_string_free(&note);
  exports_dlm_plugin_target_plan_free(plan);
  if (!is_written) return false;
  memset(prepared, 0, sizeof *prepared);
  prepared->files = one(NOTE);
  prepared->smoke.tag = EXPORTS_DLM_PLUGIN_TARGET_SMOKE_PLAN_SKIP;
  {{bindings}}_string_dup(&prepared->smoke.val.skip, "there is nothing to start");
  prepared->usage = one("read " NOTE);
  return true;
}

// Registers the result with the runtime; this one has no register.
bool exports_dlm_plugin_target_install(exports_dlm_plugin_target_plan_t *plan, exports_dlm_plugin_target_option_registration_t *registration, exports_dlm_plugin_target_error_t *error) {
  exports_dlm_plugin_target_plan_free(plan);
  registration->is_some = false;
  return true;
}

// Asks the started result; `prepare` said that there is nothing to start.
bool exports_dlm_plugin_target_smoke(exports_dlm_plugin_target_plan_t *plan, exports_dlm_plugin_target_endpoint_t *maybe_endpoint, exports_dlm_plugin_target_smoke_report_t *report, exports_dlm_plugin_target_error_t *error) {
  exports_dlm_plugin_target_plan_free(plan);
  error->tag = DLM_PLUGIN_TYPES_ERROR_UNSUPPORTED;
  {{bindings}}_string_dup(&error->val.unsupported, "there is nothing to start");
  return false;
}
