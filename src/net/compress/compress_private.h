// SPDX-License-Identifier: Apache-2.0
// What the parts of compress share: reading a head on its way, and the codecs behind a stream.
#pragma once

#include "net/compress/compress.h"

// The next field of that name from *at on, which begins at 0. NULL: there is none.
const struct http_field *compress_head_next(const struct compress_head *head, struct slice name,
                                            uint32_t *at);
// Whether one of them, as a list, has that token.
bool compress_head_lists(const struct compress_head *head, struct slice name, struct slice token);

// ---- codecs ----

// One library. State is its own object.
struct compress_codec {
    // NULL: no memory.
    void *(*create)(enum compress_level level, uint64_t bytes);
    void (*destroy)(void *state);
    // As compress_stream_run.
    enum status (*run)(void *state, struct slice *in, enum compress_step step, char *out, size_t cap,
                       size_t *written);
};
extern const struct compress_codec compress_gzip, compress_brotli, compress_zstd;
