// SPDX-License-Identifier: Apache-2.0
// Any bytes as bodies of any two codings: never more comes out than was allowed, and a larger limit gives the
// same.
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "net/compress/compress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SMALL = 5000, LARGE = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const CODINGS[] = {"gzip", "br", "zstd", "x-gzip, br", "identity, zstd", "gzip, gzip"};
    if (size < 1)
        return 0;
    struct http_field field = {.name = SLICE("content-encoding"),
                               .value = slice_of(CODINGS[data[0] % ARRAY_LEN(CODINGS)])};
    struct slice body = {(const char *)data + 1, size - 1};
    struct compress_decoded small, large;
    enum status first = compress_decode(&field, 1, body, SMALL, &small);
    enum status second = compress_decode(&field, 1, body, LARGE, &large);
    CHECK(first == STATUS_OK || first == STATUS_FULL || first == STATUS_CORRUPT);
    if (first == STATUS_OK)
        CHECK(second == STATUS_OK && small.body.len <= SMALL && slice_equal(small.body, large.body));
    if (second == STATUS_OK)
        CHECK(large.body.len <= LARGE);
    if (first == STATUS_OK)
        heap_free(small.memory);
    if (second == STATUS_OK)
        heap_free(large.memory);
    return 0;
}
