// SPDX-License-Identifier: Apache-2.0
// Any bytes as a PROXY header: nothing is read beyond them, what is one is the same header whatever follows,
// and each shorter part of it asks for more.
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "net/http/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// In a block of its own, so that a byte too much is noticed.
static enum status read_part(const uint8_t *data, size_t len, struct http_proxy_header *header,
                             size_t *header_len)
{
    char *part = heap_alloc(1, len + 1);
    CHECK(part != NULL);
    memcpy(part + 1, data, len);
    enum status status = http_proxy_header_read(part + 1, len, header, header_len);
    heap_free(part);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http_proxy_header header = {.family = HTTP_PROXY_NOBODY}, again = header;
    size_t len = 0, len_again = 0;
    enum status status = read_part(data, size, &header, &len);
    CHECK(status == STATUS_OK || status == STATUS_AGAIN || status == STATUS_INVALID);
    if (status != STATUS_OK)
        return 0;
    CHECK(len > 0 && len <= size && len <= HTTP_PROXY_HEADER_BYTES_MAX);
    CHECK(read_part(data, len, &again, &len_again) == STATUS_OK && len_again == len);
    CHECK(again.family == header.family && again.port == header.port);
    CHECK(memcmp(again.address, header.address, sizeof header.address) == 0);
    for (size_t i = 0; i < len; i += len < 256 ? 1 : 97)
        CHECK(read_part(data, i, &again, &len_again) == STATUS_AGAIN);
    return 0;
}
