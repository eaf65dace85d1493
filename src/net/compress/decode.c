// SPDX-License-Identifier: Apache-2.0
// Whole bodies, decoded into memory that grows with what comes out and no further than asked for: what a
// small body becomes is known only when it has become it.
#include <brotli/decode.h>
#include <limits.h>
#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>

#include "base/check.h"
#include "base/heap.h"
#include "net/compress/compress.h"

enum {
    CODINGS_MAX = 2,
    FIRST_BYTES = 4096,
    GZIP_WINDOW_BITS = 15 + 16, // with its wrapper alone
    ZSTD_WINDOW_BITS = 23,      // RFC 9659
};

// One library. run takes from *in and writes: OK when what was taken ends a whole body, AGAIN when more input
// or more room is needed, CORRUPT, NO_MEMORY.
struct decoder {
    void *(*create)(void); // NULL: no memory
    void (*destroy)(void *state);
    enum status (*run)(void *state, struct slice *in, char *out, size_t cap, size_t *written);
};

static void *gzip_create(void)
{
    z_stream *z = heap_alloc(1, sizeof *z);
    if (z != NULL && inflateInit2(z, GZIP_WINDOW_BITS) == Z_OK)
        return z;
    heap_free(z);
    return NULL;
}

static void gzip_destroy(void *state)
{
    (void)inflateEnd(state);
    heap_free(state);
}

// A body may be several members, one behind the other (RFC 1952, section 2.2).
static enum status gzip_run(void *state, struct slice *in, char *out, size_t cap, size_t *written)
{
    z_stream *z = state;
    uInt given = in->len < UINT_MAX ? (uInt)in->len : UINT_MAX;
    uInt room = cap < UINT_MAX ? (uInt)cap : UINT_MAX;
    z->next_in = (const Bytef *)in->data;
    z->avail_in = given;
    z->next_out = (Bytef *)out;
    z->avail_out = room;
    int result = inflate(z, Z_NO_FLUSH);
    uInt taken = given - z->avail_in;
    *in = (struct slice){in->data + taken, in->len - taken};
    *written = room - z->avail_out;
    if (result == Z_STREAM_END)
        return inflateReset(z) != Z_OK ? STATUS_CORRUPT : in->len == 0 ? STATUS_OK : STATUS_AGAIN;
    if (result == Z_MEM_ERROR)
        return STATUS_NO_MEMORY;
    return result == Z_OK || result == Z_BUF_ERROR ? STATUS_AGAIN : STATUS_CORRUPT;
}

static void *brotli_create(void)
{
    return BrotliDecoderCreateInstance(NULL, NULL, NULL);
}

static void brotli_destroy(void *state)
{
    BrotliDecoderDestroyInstance(state);
}

static enum status brotli_run(void *state, struct slice *in, char *out, size_t cap, size_t *written)
{
    const uint8_t *next_in = (const uint8_t *)in->data;
    uint8_t *next_out = (uint8_t *)out;
    size_t room = cap;
    BrotliDecoderResult result =
        BrotliDecoderDecompressStream(state, &in->len, &next_in, &room, &next_out, NULL);
    in->data = (const char *)next_in;
    *written = cap - room;
    if (result == BROTLI_DECODER_RESULT_SUCCESS)
        return in->len == 0 ? STATUS_OK : STATUS_CORRUPT;
    return result == BROTLI_DECODER_RESULT_ERROR ? STATUS_CORRUPT : STATUS_AGAIN;
}

static void *zstd_create(void)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    if (context != NULL &&
        !ZSTD_isError(ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, ZSTD_WINDOW_BITS)))
        return context;
    (void)ZSTD_freeDCtx(context);
    return NULL;
}

static void zstd_destroy(void *state)
{
    (void)ZSTD_freeDCtx(state);
}

// A body may be several frames, one behind the other (RFC 8878, section 3).
static enum status zstd_run(void *state, struct slice *in, char *out, size_t cap, size_t *written)
{
    ZSTD_inBuffer from = {in->data, in->len, 0};
    ZSTD_outBuffer to = {out, cap, 0};
    size_t left = ZSTD_decompressStream(state, &to, &from);
    if (ZSTD_isError(left))
        return STATUS_CORRUPT;
    *in = (struct slice){in->data + from.pos, in->len - from.pos};
    *written = to.pos;
    return left == 0 && in->len == 0 ? STATUS_OK : STATUS_AGAIN;
}

static const struct decoder DECODERS[HTTP_CODECS] = {
    [HTTP_CODEC_GZIP] = {gzip_create, gzip_destroy, gzip_run},
    [HTTP_CODEC_BR] = {brotli_create, brotli_destroy, brotli_run},
    [HTTP_CODEC_ZSTD] = {zstd_create, zstd_destroy, zstd_run},
};

struct grown {
    char *data;
    size_t len, cap;
};

static enum status grow(struct grown *out, size_t most)
{
    size_t cap = out->cap > 0 ? out->cap * 2 : FIRST_BYTES;
    if (out->len > most)
        return STATUS_FULL;
    cap = cap < most + 1 ? cap : most + 1; // one more tells that there is more
    char *data = heap_resize(out->data, cap);
    if (data == NULL)
        return STATUS_NO_MEMORY;
    out->data = data;
    out->cap = cap;
    return STATUS_OK;
}

static enum status run_all(const struct decoder *decoder, void *state, struct slice in, size_t most,
                           struct grown *out)
{
    for (;;) {
        enum status status = out->len == out->cap ? grow(out, most) : STATUS_OK;
        if (status != STATUS_OK)
            return status;
        size_t before = in.len, written = 0;
        status = decoder->run(state, &in, out->data + out->len, out->cap - out->len, &written);
        out->len += written;
        if (status == STATUS_OK)
            return out->len > most ? STATUS_FULL : STATUS_OK;
        if (status != STATUS_AGAIN)
            return status;
        if (written == 0 && in.len == before)
            return STATUS_CORRUPT; // it wants more than there is
    }
}

static enum status decode_one(enum http_codec codec, size_t most, struct compress_decoded *decoded)
{
    const struct decoder *decoder = &DECODERS[codec];
    struct grown out = {0};
    void *state = decoder->create();
    if (state == NULL)
        return STATUS_NO_MEMORY;
    enum status status = run_all(decoder, state, decoded->body, most, &out);
    decoder->destroy(state);
    heap_free(decoded->memory);
    *decoded = (struct compress_decoded){.body = {out.data, out.len}, .memory = out.data};
    return status;
}

static bool codec_of(struct slice coding, enum http_codec *codec)
{
    if (slice_equal_nocase(coding, SLICE("x-gzip")))
        coding = http_codec_name(HTTP_CODEC_GZIP);
    for (*codec = HTTP_CODEC_NONE; *codec < HTTP_CODECS; (*codec)++)
        if (slice_equal_nocase(coding, http_codec_name(*codec)))
            return true;
    return false;
}

// In the order in which they were applied.
static enum status read_codings(const struct http_field *fields, uint32_t field_count,
                                enum http_codec codings[CODINGS_MAX], uint32_t *count)
{
    for (uint32_t i = 0; i < field_count; i++) {
        struct slice rest = fields[i].value, coding;
        if (!slice_equal_nocase(fields[i].name, SLICE("content-encoding")))
            continue;
        while (http_list_next(&rest, &coding)) {
            enum http_codec codec;
            if (!codec_of(coding, &codec) || (codec != HTTP_CODEC_NONE && *count == CODINGS_MAX))
                return STATUS_UNSUPPORTED;
            if (codec != HTTP_CODEC_NONE)
                codings[(*count)++] = codec;
        }
    }
    return STATUS_OK;
}

enum status compress_decode(const struct http_field *fields, uint32_t field_count, struct slice body,
                            size_t most, struct compress_decoded *decoded)
{
    enum http_codec codings[CODINGS_MAX];
    uint32_t count = 0;
    struct compress_decoded made = {.body = body};
    CHECK(most < SIZE_MAX / 2);
    enum status status = read_codings(fields, field_count, codings, &count);
    // Without a body there is nothing that was coded: an answer to HEAD, a 304.
    while (status == STATUS_OK && body.len > 0 && count > 0)
        status = decode_one(codings[--count], most, &made);
    if (status == STATUS_OK)
        *decoded = made;
    else
        heap_free(made.memory);
    return status;
}
