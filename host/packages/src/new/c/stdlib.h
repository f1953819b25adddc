#pragma once
#include <stddef.h>

void *malloc(size_t bytes);
void *realloc(void *old, size_t bytes);
void free(void *block);
_Noreturn void abort(void);
