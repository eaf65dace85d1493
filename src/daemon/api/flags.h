// SPDX-License-Identifier: Apache-2.0
// Between the parts of the flags API. Answers are written here as text, not as a tree: variants and
// definitions go out as the bytes they came in, and a list of a hundred thousand flags costs no nodes.
#pragma once

#include "daemon/api/api_private.h"
#include "flags/eval/json.h"
#include "flags/runtime/runtime.h"

enum {
    API_FLAGS_PAGE_MAX = 1000, // flags or changes in one answer
    API_FLAGS_PAGE_DEFAULT = 100,
    API_FLAGS_IMPORT_MAX = 200,                    // flags in one import: each is journalled by itself
    API_FLAGS_ANSWER_BYTES_MAX = 16 * 1024 * 1024, // the control loop's buffers hold no more
    API_FLAGS_PATH_BYTES = 1024,                   // of what decided an evaluation
};

// ---- flags_write.c: JSON text that grows on the heap

struct api_out {
    char *data;
    size_t len, cap;
    bool failed; // no memory; everything after it is dropped
    bool comma;  // the next member or item needs one
};
void api_out_open(struct api_out *out, char bracket);
void api_out_close(struct api_out *out, char bracket);
void api_out_key(struct api_out *out, const char *name); // a plain word
void api_out_raw(struct api_out *out, struct slice json);
void api_out_string(struct api_out *out, struct slice text);
void api_out_text(struct api_out *out, const char *text); // NULL: null
void api_out_count(struct api_out *out, uint64_t count);
void api_out_integer(struct api_out *out, int64_t number);
void api_out_time(struct api_out *out, int64_t time_ms); // 0: null
void api_out_bool(struct api_out *out, bool yes);
void api_out_null(struct api_out *out);

// Gives what was written to the answer, or 500 when memory ran out, or 413 when it is too large.
void api_flags_answer(struct api_answer *answer, unsigned status, struct api_out *out);
void api_flags_error(struct api_answer *answer, unsigned status, const char *code, const char *message);
// The HTTP status and code of what control refused.
void api_flags_refusal(struct api_answer *answer, enum status status, const char *message);

// ---- flags_show.c

// One page of the flags, or as the query says the changes made or the file that says the same.
void api_flags_list(struct engine *engine, const struct api_request *request, struct api_answer *answer);
void api_flags_show(struct engine *engine, struct slice key, struct api_answer *answer);
void api_flags_history(struct engine *engine, struct slice key, const struct api_request *request,
                       struct api_answer *answer);
void api_flags_unknown(struct engine *engine, struct slice key, struct api_answer *answer);

// ---- flags_change.c

struct api_body {
    struct flags_json *root;
    struct flags_json *nodes;
    char *chars;
};
// An empty body is an empty object. False: answered 400, 413 or 503 already.
bool api_body_read(const struct api_request *request, struct api_body *body, struct api_answer *answer);
void api_body_free(struct api_body *body);

void api_flags_put(struct engine *engine, const char *key, const struct api_request *request,
                   struct api_answer *answer);
void api_flags_delete(struct engine *engine, const char *key, const struct api_request *request,
                      struct api_answer *answer);
void api_flags_switch(struct engine *engine, const char *key, bool on, const struct api_request *request,
                      struct api_answer *answer);
void api_flags_import(struct engine *engine, const struct api_request *request, struct api_answer *answer);

// ---- flags_eval.c

void api_flags_eval(struct engine *engine, struct slice key, const struct api_request *request,
                    struct api_answer *answer);

// ---- flags.c

// The value of a query's parameter, percent-decoded into out (NUL-terminated). False when it is not there or
// does not fit.
bool api_query_value(struct slice query, struct slice name, char *out, size_t cap);
// "1", "true" or nothing after the name.
bool api_query_given(struct slice query, struct slice name);
