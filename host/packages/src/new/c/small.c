// The little of a C library that a plugin needs: memory and a few loops. Nothing here asks the host for anything.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// A block is its size, then its bytes; a free block holds the next free one in its first bytes.
typedef struct block {
  size_t bytes;
  struct block *next;
} block;

enum { HEAD = 16, PAGE = 65536 };

extern unsigned char __heap_base;
static uintptr_t top;
static block *unused;

static size_t rounded(size_t bytes) { return (bytes + 15) & ~(size_t)15; }

void *malloc(size_t bytes) {
  if (bytes > (size_t)1 << 31) abort();
  size_t need = rounded(bytes ? bytes : 1);
  for (block **link = &unused; *link; link = &(*link)->next) {
    block *found = *link;
    // A block much larger than what is asked for stays for one who needs it.
    if (found->bytes >= need && found->bytes / 4 <= need) {
      *link = found->next;
      return (unsigned char *)found + HEAD;
    }
  }
  if (top == 0) top = rounded((uintptr_t)&__heap_base);
  uintptr_t end = top + HEAD + need;
  uintptr_t have = (uintptr_t)__builtin_wasm_memory_size(0) * PAGE;
  if (end > have && __builtin_wasm_memory_grow(0, (end - have + PAGE - 1) / PAGE) == (size_t)-1) abort();
  block *made = (block *)top;
  made->bytes = need;
  top = end;
  return (unsigned char *)made + HEAD;
}

void free(void *bytes) {
  if (!bytes) return;
  block *gone = (block *)((unsigned char *)bytes - HEAD);
  gone->next = unused;
  unused = gone;
}

void *realloc(void *old, size_t bytes) {
  if (!old) return malloc(bytes);
  size_t had = ((block *)((unsigned char *)old - HEAD))->bytes;
  if (bytes <= had) return old;
  void *made = malloc(bytes);
  memcpy(made, old, had);
  free(old);
  return made;
}

_Noreturn void abort(void) { __builtin_trap(); }

void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
  unsigned char *t = to;
  const unsigned char *f = from;
  while (bytes--) *t++ = *f++;
  return to;
}

void *memmove(void *to, const void *from, size_t bytes) {
  unsigned char *t = to;
  const unsigned char *f = from;
  if (t <= f) return memcpy(to, from, bytes);
  while (bytes--) t[bytes] = f[bytes];
  return to;
}

void *memset(void *to, int value, size_t bytes) {
  unsigned char *t = to;
  while (bytes--) *t++ = (unsigned char)value;
  return to;
}

int memcmp(const void *a, const void *b, size_t bytes) {
  const unsigned char *x = a, *y = b;
  for (; bytes--; x++, y++)
    if (*x != *y) return *x < *y ? -1 : 1;
  return 0;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  return length;
}
