/* The export of the world `teacher-plugin`: a teacher that needs no model.
 *
 * The few lines between C and the component model are written by hand here, so that nothing is hidden: a text is a pointer
 * and a length, an answer is written into one block of memory whose address is returned. `wit-bindgen c` writes the same
 * for a whole world. The offsets follow from the records in wit/teacher.wit and wit/types.wit. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pairs.h"

#define EXPORT(name) __attribute__((export_name(name)))

/* Pairs where the request names no number. */
enum { PAIRS_OTHERWISE = 3 };
enum { CONCURRENCY_MAX = 4 };
/* Cases of the variant `error`, in its order. */
enum { INVALID_INPUT = 0, FAILED = 11 };

/* Where the host puts texts, and where lists that we return are freed from. */
EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_len, size_t align, size_t len) {
    (void)old_len;
    if (len == 0) {
        return (void *)align;
    }
    void *block = realloc(old, len);
    if (block == NULL) {
        __builtin_trap();
    }
    return block;
}

/* What a function returns, good until the next call. */
static union {
    uint64_t align;
    uint8_t bytes[64];
} answer;

static void put(size_t at, const void *value, size_t len) {
    memcpy(answer.bytes + at, value, len);
}

static void put_u32(size_t at, uint32_t value) {
    put(at, &value, sizeof value);
}

static void put_u64(size_t at, uint64_t value) {
    put(at, &value, sizeof value);
}

static void put_text(size_t at, const char *bytes, size_t len) {
    put_u32(at, (uint32_t)(uintptr_t)bytes);
    put_u32(at + 4, (uint32_t)len);
}

/* An error with a text; `payload` is where the result's value begins. */
static void *fail(size_t payload, uint8_t error, const char *text) {
    memset(answer.bytes, 0, sizeof answer.bytes);
    answer.bytes[0] = 1;
    answer.bytes[payload] = error;
    put_text(payload + 4, text, strlen(text));
    return answer.bytes;
}

EXPORT("dlm:plugin/teacher@1.0.0#open")
void *teacher_open(char *arg, size_t arg_len) {
    static const char name[] = "cloze";
    static const char detail[] = "questions from sentences of the form `X is Y`";
    if (arg_len != 0) {
        free(arg);
        return fail(4, INVALID_INPUT, "teacher `cloze` takes no argument");
    }
    memset(answer.bytes, 0, sizeof answer.bytes);
    put_text(4, name, sizeof name - 1);
    answer.bytes[12] = 1;
    put_text(16, detail, sizeof detail - 1);
    answer.bytes[24] = 1;
    put_u32(28, CONCURRENCY_MAX);
    return answer.bytes;
}

/* The answer's text, freed when the next one is made. */
static struct text written;

EXPORT("dlm:plugin/teacher@1.0.0#complete")
void *teacher_complete(char *system, size_t system_len, char *user, size_t user_len, uint32_t max_new_tokens,
                       float temperature, uint32_t has_top_p, float top_p, uint32_t has_seed, uint64_t seed) {
    /* A rule has no use for any of these. */
    (void)max_new_tokens, (void)temperature, (void)has_top_p, (void)top_p, (void)has_seed, (void)seed;
    const char *passage = NULL;
    size_t len = 0;
    find_passage(user, user_len, &passage, &len);
    size_t count = find_count(user, (size_t)(passage - user), PAIRS_OTHERWISE);
    free(written.bytes);
    written = (struct text){0};
    write_pairs(passage, len, count, &written);
    if (system_len != 0) {
        free(system);
    }
    if (user_len != 0) {
        free(user);
    }
    if (written.failed) {
        return fail(8, FAILED, "out of memory");
    }
    memset(answer.bytes, 0, sizeof answer.bytes);
    put_text(8, written.bytes, written.len);
    put_u64(24, 0);
    put_u64(32, 0);
    put_u32(40, 1);
    return answer.bytes;
}
