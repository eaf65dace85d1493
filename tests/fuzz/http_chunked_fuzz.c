// SPDX-License-Identifier: Apache-2.0
// Chunked bodies. The first byte seeds the fragmentation: in one piece and in many the outcome is the same,
// nothing is consumed after the end, and what is written again decodes to the same bytes and trailers.
#include "base/check.h"
#include "net/http/http1_write.h"

#define BYTES_MAX 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct decoded {
    struct http1_body body;
    size_t consumed;
    size_t payload_len;
    char payload[BYTES_MAX];
    char trailers[BYTES_MAX];
};

static struct decoded whole;
static struct decoded pieces;
static struct decoded rewritten;
static struct http_fields trailers;
static struct http_fields trailers_again;
static char written[4 * BYTES_MAX];

// piece 0: all at once; else pieces of pseudo-random sizes.
static void decode(struct decoded *d, const char *text, size_t len, unsigned piece)
{
    http1_body_init(&d->body, HTTP_FRAMING_CHUNKED, 0, NULL, d->trailers, sizeof d->trailers);
    d->consumed = 0;
    d->payload_len = 0;
    unsigned step = piece;
    while (d->consumed < len && !d->body.done) {
        size_t n = len - d->consumed;
        step = step * 75 + 74;
        if (piece != 0 && n > 1 + step % 17)
            n = 1 + step % 17;
        size_t used = 0;
        struct slice payload;
        enum status status = http1_body_next(&d->body, text + d->consumed, n, &used, &payload);
        if (status != STATUS_OK && status != STATUS_AGAIN) {
            CHECK(d->body.reject != HTTP1_REJECT_NONE);
            return;
        }
        CHECK(used <= n && payload.len <= used);
        CHECK(status == STATUS_AGAIN ? used == n && payload.len == 0 : payload.len > 0 || d->body.done);
        if (payload.len > 0)
            memcpy(d->payload + d->payload_len, payload.data, payload.len);
        d->payload_len += payload.len;
        d->consumed += used;
    }
}

static void write_again(const struct decoded *d)
{
    struct http1_writer writer = http1_writer_over(written, sizeof written);
    if (d->payload_len > 0)
        CHECK(http1_write_chunk(&writer, (struct slice){d->payload, d->payload_len}) == STATUS_OK);
    CHECK(http1_write_last_chunk(&writer, &trailers) == STATUS_OK);
    decode(&rewritten, written, writer.len, 0);
    CHECK(rewritten.body.done && rewritten.consumed == writer.len);
    CHECK(rewritten.payload_len == d->payload_len &&
          memcmp(rewritten.payload, d->payload, d->payload_len) == 0);
    CHECK(http1_body_trailers(&rewritten.body, &trailers_again) == STATUS_OK);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < trailers.count; i++) {
        if ((trailers.items[i].marks & HTTP_FIELD_HOP) != 0)
            continue;
        CHECK(slice_equal(trailers.items[i].name, trailers_again.items[kept].name));
        CHECK(slice_equal(trailers.items[i].value, trailers_again.items[kept].value));
        kept++;
    }
    CHECK(kept == trailers_again.count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > BYTES_MAX)
        return 0;
    const char *text = (const char *)data + 1;
    decode(&whole, text, size - 1, 0);
    decode(&pieces, text, size - 1, data[0] + 1U);
    CHECK(whole.body.done == pieces.body.done && whole.body.reject == pieces.body.reject);
    if (whole.body.reject != HTTP1_REJECT_NONE)
        return 0;
    CHECK(whole.consumed == pieces.consumed && whole.payload_len == pieces.payload_len);
    CHECK(memcmp(whole.payload, pieces.payload, whole.payload_len) == 0);
    if (!whole.body.done)
        return 0;
    CHECK(http1_body_trailers(&whole.body, &trailers) == STATUS_OK);
    write_again(&whole);
    return 0;
}
