// SPDX-License-Identifier: Apache-2.0
// Between the parts of the flags API: its handlers. Variants and definitions go out as the bytes they came
// in.
#pragma once

#include "daemon/api/api_private.h"
#include "flags/runtime/runtime.h"

enum {
    API_FLAGS_PAGE_MAX = 1000, // flags or changes in one answer
    API_FLAGS_PAGE_DEFAULT = 100,
    API_FLAGS_IMPORT_MAX = 200,  // flags in one import: each is journalled by itself
    API_FLAGS_PATH_BYTES = 1024, // of what decided an evaluation
};

// ---- flags_show.c

// One page of the flags, or as the query says the changes made or the file that says the same.
void api_flags_list(struct api_call *call);
void api_flags_show(struct api_call *call);
void api_flags_history(struct api_call *call); // of one flag
void api_flags_unknown(struct api_call *call, struct slice key);
void api_write_slice(struct json_out *out, const char *member, struct slice text); // empty: null

// ---- flags_change.c

void api_flags_put(struct api_call *call);
void api_flags_delete(struct api_call *call);
void api_flags_on(struct api_call *call);
void api_flags_off(struct api_call *call);
void api_flags_import(struct api_call *call);

// ---- flags_eval.c

void api_flags_eval(struct api_call *call);
