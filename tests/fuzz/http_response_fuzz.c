// SPDX-License-Identifier: Apache-2.0
// Response heads; the first byte chooses the request's method. Accepted ones have incomplete prefixes, and
// what is written of them parses to the same framing and is written the same again.
#include "base/check.h"
#include "net/http/http1_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct http_response response;
static struct http_response again;
static char first[2 * HTTP1_HEAD_BYTES_MAX];
static char second[2 * HTTP1_HEAD_BYTES_MAX];

static size_t write_head(char *bytes, const struct http_response *what)
{
    const struct http1_forward forward = {.upgrade = true, .keep_sluice = true};
    struct http1_writer writer = http1_writer_over(bytes, sizeof first);
    CHECK(http1_write_response_head(&writer, what, &forward) == STATUS_OK);
    return writer.len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    enum http_method method = data[0] & 1 ? HTTP_METHOD_HEAD : HTTP_METHOD_GET;
    const char *text = (const char *)data + 1;
    size_t head_len = 0;
    enum http1_reject why = HTTP1_REJECT_NONE;
    enum status status = http1_response_parse(text, size - 1, NULL, method, &response, &head_len, &why);
    CHECK(status == STATUS_OK || status == STATUS_AGAIN || why != HTTP1_REJECT_NONE);
    if (status != STATUS_OK)
        return 0;
    CHECK(head_len > 0 && head_len <= size - 1 && response.status >= 100 && response.status <= 999);
    size_t step = head_len / 64 + 1;
    for (size_t cut = 0; cut < head_len; cut += step)
        CHECK(http1_response_parse(text, cut, NULL, method, &again, &head_len, &why) == STATUS_AGAIN);
    size_t first_len = write_head(first, &response);
    for (uint32_t i = 0; i < response.fields.count; i++)
        response.fields.items[i].marks &= (uint16_t)~HTTP_FIELD_CONTIGUOUS;
    CHECK(write_head(second, &response) == first_len && memcmp(first, second, first_len) == 0);
    size_t again_len = 0;
    status = http1_response_parse(first, first_len, NULL, method, &again, &again_len, &why);
    if (status == STATUS_FULL)
        return 0;
    CHECK(status == STATUS_OK && again_len == first_len && again.status == response.status);
    CHECK(slice_equal(again.reason, response.reason));
    CHECK(again.framing == response.framing && again.has_content_length == response.has_content_length);
    CHECK(!again.has_content_length || again.content_length == response.content_length);
    CHECK(again.informational == response.informational);
    size_t second_len = write_head(second, &again);
    CHECK(second_len == first_len && memcmp(first, second, first_len) == 0);
    return 0;
}
