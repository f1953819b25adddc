// {{does}}.

#include <stdlib.h>
#include <string.h>

#include "{{bindings}}.h"

typedef {{bindings}}_string_t text;

// A copy of three texts, which the host frees.
static text joined(const char *start, text rest, const char *end) {
  size_t a = strlen(start), b = strlen(end);
  text made = {.ptr = malloc(a + rest.len + b), .len = a + rest.len + b};
  memcpy(made.ptr, start, a);
  memcpy(made.ptr + a, rest.ptr, rest.len);
  memcpy(made.ptr + a + rest.len, end, b);
  return made;
}

// Called once for each worker, before anything else.
bool exports_dlm_plugin_teacher_open(text *argument, exports_dlm_plugin_teacher_info_t *info, exports_dlm_plugin_teacher_error_t *error) {
  if (argument->len > 0) {
    error->tag = DLM_PLUGIN_TYPES_ERROR_INVALID_INPUT;
    error->val.invalid_input = joined("`{{name}}` takes no argument, found `", *argument, "`");
    return false;
  }
  memset(info, 0, sizeof *info);
  {{bindings}}_string_dup(&info->identity.name, "{{name}}");
  info->max_concurrency = 1;
  return true;
}

// One answer to one prompt.
bool exports_dlm_plugin_teacher_complete(exports_dlm_plugin_teacher_request_t *request, exports_dlm_plugin_teacher_completion_t *completion, exports_dlm_plugin_teacher_error_t *error) {
  memset(completion, 0, sizeof *completion);
  completion->text = joined("You asked: ", request->user, "");
  completion->usage.requests = 1;
  exports_dlm_plugin_teacher_request_free(request);
  return true;
}
