// {{does}}.

#include <stdlib.h>
#include <string.h>

#include "{{bindings}}.h"

typedef {{bindings}}_string_t text;

// Called once, before anything else; `rest` is the text after `{{name}}:`.
bool exports_dlm_plugin_destination_open(text *rest, exports_dlm_plugin_destination_info_t *info, exports_dlm_plugin_destination_error_t *error) {
  memset(info, 0, sizeof *info);
  {{bindings}}_string_dup(&info->identity.name, "{{name}}");
  info->identity.detail.is_some = true;
  info->identity.detail.val = *rest;
  // `contacts` stays empty: the origins that it will talk to, in grant syntax, such as `http:https://example.com`.
  return true;
}

static size_t number(char *to, uint64_t value) {
  char digits[20];
  size_t length = 0;
  do digits[length++] = '0' + (char)(value % 10);
  while (value /= 10);
  for (size_t i = 0; i < length; i++) to[i] = digits[length - 1 - i];
  return length;
}

// What `push` would do, without doing it.
bool exports_dlm_plugin_destination_preview(exports_dlm_plugin_destination_pack_t *pack, exports_dlm_plugin_destination_options_t *options, exports_dlm_plugin_destination_list_step_t *steps, exports_dlm_plugin_destination_error_t *error) {
  text line = {.ptr = malloc(pack->file_name.len + 40), .len = 0};
  memcpy(line.ptr, "send ", 5);
  memcpy(line.ptr + 5, pack->file_name.ptr, pack->file_name.len);
  line.len = 5 + pack->file_name.len;
  memcpy(line.ptr + line.len, " (", 2);
  line.len += 2;
  line.len += number((char *)line.ptr + line.len, pack->size);
  memcpy(line.ptr + line.len, " bytes)", 7);
  line.len += 7;
  steps->len = 1;
  steps->ptr = malloc(sizeof *steps->ptr);
  steps->ptr[0].text = line;
  exports_dlm_plugin_destination_pack_free(pack);
  exports_dlm_plugin_destination_options_free(options);
  return true;
}

// Sends the pack: open it with `dlm_plugin_artifacts_open_input`, send it with `dlm_plugin_upload_send_file`.
bool exports_dlm_plugin_destination_push(exports_dlm_plugin_destination_pack_t *pack, exports_dlm_plugin_destination_options_t *options, exports_dlm_plugin_destination_receipt_t *receipt, exports_dlm_plugin_destination_error_t *error) {
  exports_dlm_plugin_destination_pack_free(pack);
  exports_dlm_plugin_destination_options_free(options);
  error->tag = DLM_PLUGIN_TYPES_ERROR_UNSUPPORTED;
  {{bindings}}_string_dup(&error->val.unsupported, "`{{name}}` does not push yet");
  return false;
}
