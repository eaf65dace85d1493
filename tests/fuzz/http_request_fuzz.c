// SPDX-License-Identifier: Apache-2.0
// Request heads. Whatever is accepted: its prefixes are incomplete, it is written the same with and without
// the copying of runs, and what is written parses to the same request and is written the same again.
#include "base/check.h"
#include "net/http/http_private.h"

#include "net/http/http1_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct http_request request;
static struct http_request again;
static char first[2 * HTTP1_HEAD_BYTES_MAX];
static char second[2 * HTTP1_HEAD_BYTES_MAX];

static void check_inside(struct slice part, const char *data, size_t len)
{
    CHECK(part.data >= data && part.data + part.len <= data + len);
}

static void check_fields(const struct http_fields *fields, const char *data, size_t len)
{
    CHECK(fields->count <= HTTP_FIELDS_MAX);
    for (uint32_t i = 0; i < fields->count; i++) {
        const struct http_field *field = &fields->items[i];
        check_inside(field->name, data, len);
        check_inside(field->value, data, len);
        CHECK(http_token_valid(field->name) && http_value_valid(field->value));
        CHECK(field->id == http_field_id_of(field->name));
    }
}

static void check_scans(const char *data, size_t len)
{
#if HTTP_HAVE_SSE2
    static struct http_lines a;
    static struct http_lines b;
    enum http1_reject why_a = HTTP1_REJECT_NONE;
    enum http1_reject why_b = HTTP1_REJECT_NONE;
    CHECK(http_scan_sse2(data, len, true, &a, &why_a) == http_scan_portable(data, len, true, &b, &why_b));
    CHECK(why_a == why_b && a.count == b.count && a.start == b.start && a.head_len == b.head_len);
    CHECK(memcmp(a.end, b.end, a.count * sizeof a.end[0]) == 0);
#else
    (void)data;
    (void)len;
#endif
}

static size_t write_head(char *bytes, const struct http_request *what)
{
    const struct http1_forward forward = {
        .upgrade = true,
        .keep_sluice = true,
        .trusted = true,
        .trusted_hops = 2,
        .host_replace = what->authority.len == 0 ? SLICE("none") : (struct slice){NULL, 0},
    };
    struct http1_writer writer = http1_writer_over(bytes, sizeof first);
    CHECK(http1_write_request_head(&writer, what, &forward) == STATUS_OK);
    return writer.len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    size_t head_len = 0;
    enum http1_reject why = HTTP1_REJECT_NONE;
    check_scans(text, size < HTTP1_HEAD_BYTES_MAX ? size : HTTP1_HEAD_BYTES_MAX);
    enum status status = http1_request_parse(text, size, NULL, &request, &head_len, &why);
    CHECK(status == STATUS_OK || status == STATUS_AGAIN || why != HTTP1_REJECT_NONE);
    if (status != STATUS_OK)
        return 0;
    CHECK(head_len > 0 && head_len <= size);
    check_fields(&request.fields, text, head_len);
    check_inside(request.target, text, head_len);
    CHECK(request.path.len > 0 && (request.path.data[0] == '/' || request.form == HTTP1_TARGET_ASTERISK));
    size_t step = head_len / 64 + 1;
    for (size_t cut = 0; cut < head_len; cut += step)
        CHECK(http1_request_parse(text, cut, NULL, &again, &head_len, &why) == STATUS_AGAIN);
    size_t first_len = write_head(first, &request);
    for (uint32_t i = 0; i < request.fields.count; i++)
        request.fields.items[i].marks &= (uint16_t)~HTTP_FIELD_CONTIGUOUS;
    CHECK(write_head(second, &request) == first_len && memcmp(first, second, first_len) == 0);
    size_t again_len = 0;
    status = http1_request_parse(first, first_len, NULL, &again, &again_len, &why);
    // What is added may pass a limit that the message just kept.
    if (status == STATUS_FULL)
        return 0;
    CHECK(status == STATUS_OK && again_len == first_len);
    CHECK(again.method_id == request.method_id && slice_equal(again.method, request.method));
    CHECK(slice_equal(again.path, request.path) && slice_equal(again.query, request.query));
    CHECK(again.framing == request.framing && again.content_length == request.content_length);
    CHECK(request.authority.len == 0 || slice_equal(again.authority, request.authority));
    CHECK(slice_equal(again.upgrade, request.upgrade) && again.te_trailers == request.te_trailers);
    CHECK(again.expect_continue == request.expect_continue);
    size_t second_len = write_head(second, &again);
    CHECK(second_len == first_len && memcmp(first, second, first_len) == 0);
    return 0;
}
