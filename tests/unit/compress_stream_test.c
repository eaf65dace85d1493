// SPDX-License-Identifier: Apache-2.0
// Streams of each codec and level, read back by the libraries' own decoders.
#include <brotli/decode.h>
#include <malloc.h>
#include <zlib.h>
#include <zstd.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/rng.h"
#include "net/compress/compress.h"
#include "test.h"

enum { BODY_BYTES = 300000, CODED_BYTES = 400000, WINDOW_BITS_CLIENT = 23 };

static char body[BODY_BYTES], coded[CODED_BYTES], decoded[BODY_BYTES + 1];

// Text that repeats itself near and far, with some noise.
static void make_body(void)
{
    struct rng rng;
    rng_init(&rng, 7);
    for (size_t i = 0; i < BODY_BYTES; i++) {
        uint64_t draw = rng_next(&rng);
        body[i] =
            i > 1000 && draw % 8 != 0 ? body[i - 1 - (draw >> 8) % 2 * 700] : (char)('a' + (draw >> 16) % 26);
    }
}

// What a decoder makes of the first bytes. *whole: it is at the coded body's end.
static size_t decode(enum http_codec codec, size_t len, bool *whole)
{
    if (codec == HTTP_CODEC_BR) {
        const uint8_t *in = (const uint8_t *)coded;
        uint8_t *out = (uint8_t *)decoded;
        size_t room = sizeof decoded;
        BrotliDecoderState *state = BrotliDecoderCreateInstance(NULL, NULL, NULL);
        BrotliDecoderResult result = BrotliDecoderDecompressStream(state, &len, &in, &room, &out, NULL);
        assert_int_not_equal(result, BROTLI_DECODER_RESULT_ERROR);
        *whole = result == BROTLI_DECODER_RESULT_SUCCESS && len == 0;
        BrotliDecoderDestroyInstance(state);
        return sizeof decoded - room;
    }
    if (codec == HTTP_CODEC_ZSTD) {
        ZSTD_DCtx *state = ZSTD_createDCtx();
        assert_false(ZSTD_isError(ZSTD_DCtx_setParameter(state, ZSTD_d_windowLogMax, WINDOW_BITS_CLIENT)));
        ZSTD_inBuffer in = {coded, len, 0};
        ZSTD_outBuffer out = {decoded, sizeof decoded, 0};
        size_t left = 1;
        while (in.pos < in.size && left != 0) {
            left = ZSTD_decompressStream(state, &out, &in);
            assert_false(ZSTD_isError(left));
        }
        *whole = left == 0 && in.pos == in.size;
        ZSTD_freeDCtx(state);
        return out.pos;
    }
    z_stream z = {.next_in = (Bytef *)coded, .avail_in = (uInt)len, .next_out = (Bytef *)decoded};
    z.avail_out = sizeof decoded;
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    int result = inflate(&z, Z_SYNC_FLUSH);
    assert_true(result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR);
    *whole = result == Z_STREAM_END && z.avail_in == 0;
    (void)inflateEnd(&z);
    return sizeof decoded - z.avail_out;
}

static struct compress_stream *stream_of(enum http_codec codec, enum compress_level level, uint64_t bytes)
{
    struct compress_stream *stream;
    assert_int_equal(compress_stream_create(codec, level, bytes, &stream), STATUS_OK);
    return stream;
}

// Gives out as much as the step wants, in pieces of at most room bytes. Returns the end of what is coded.
static size_t step(struct compress_stream *stream, struct slice in, enum compress_step step, size_t at,
                   size_t room)
{
    enum status status;
    do {
        size_t written = SIZE_MAX;
        assert_true(at < CODED_BYTES);
        size_t cap = CODED_BYTES - at < room ? CODED_BYTES - at : room;
        status = compress_stream_run(stream, &in, step, coded + at, cap, &written);
        assert_true(written <= cap);
        at += written;
    } while (status == STATUS_AGAIN);
    assert_int_equal(status, STATUS_OK);
    assert_int_equal(in.len, 0);
    return at;
}

static void round_trip(enum http_codec codec, enum compress_level level, size_t bytes, bool told,
                       size_t piece, size_t room)
{
    struct compress_stream *stream = stream_of(codec, level, told ? bytes : UINT64_MAX);
    size_t at = 0;
    for (size_t from = 0; from < bytes; from += piece) {
        size_t len = bytes - from < piece ? bytes - from : piece;
        at = step(stream, (struct slice){body + from, len}, COMPRESS_GO_ON, at, room);
    }
    at = step(stream, (struct slice){NULL, 0}, COMPRESS_END, at, room);
    compress_stream_destroy(stream);
    bool whole;
    assert_int_equal(decode(codec, at, &whole), bytes);
    assert_true(whole);
    assert_memory_equal(decoded, body, bytes);
}

TEST(round_trips)
{
    static const size_t pieces[] = {1, 7, 4096, 36864, BODY_BYTES};
    static const size_t rooms[] = {1, 13, 16384};
    make_body();
    for (enum http_codec codec = HTTP_CODEC_GZIP; codec < HTTP_CODECS; codec++)
        for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
            for (size_t j = 0; j < ARRAY_LEN(rooms); j++) {
                size_t bytes = pieces[i] < 100 || rooms[j] < 100 ? 20000 : BODY_BYTES;
                round_trip(codec, COMPRESS_BALANCED, bytes, false, pieces[i], rooms[j]);
                round_trip(codec, COMPRESS_FAST, bytes, true, pieces[i], rooms[j]);
                round_trip(codec, COMPRESS_SMALL, bytes, true, pieces[i], rooms[j]);
            }
}

// Each length up to some, and around the edges of windows.
TEST(lengths)
{
    static const size_t lengths[] = {255,  256,  257,  511,   512,   513,   1024,
                                     1025, 8192, 8193, 16384, 16385, 32768, 65537};
    make_body();
    for (enum http_codec codec = HTTP_CODEC_GZIP; codec < HTTP_CODECS; codec++) {
        for (size_t bytes = 0; bytes < 40; bytes++)
            for (int told = bytes == 0 ? 0 : 1; told >= 0; told--)
                round_trip(codec, COMPRESS_BALANCED, bytes, told == 1, 16, 16384);
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
            round_trip(codec, COMPRESS_BALANCED, lengths[i], true, 5000, 16384);
    }
}

// After a flush all that was given can be read, and the body is not whole.
TEST(flushed)
{
    make_body();
    for (enum http_codec codec = HTTP_CODEC_GZIP; codec < HTTP_CODECS; codec++) {
        struct compress_stream *stream = stream_of(codec, COMPRESS_BALANCED, UINT64_MAX);
        size_t at = 0;
        bool whole;
        for (size_t from = 0; from < 20000; from += 1000) {
            at = step(stream, (struct slice){body + from, 1000}, COMPRESS_GO_ON, at, 500);
            at = step(stream, (struct slice){NULL, 0}, COMPRESS_FLUSH, at, 60);
            at = step(stream, (struct slice){NULL, 0}, COMPRESS_FLUSH, at, 60);
            assert_int_equal(decode(codec, at, &whole), from + 1000);
            assert_false(whole);
        }
        assert_memory_equal(decoded, body, 20000);
        compress_stream_destroy(stream);
    }
}

// Cut off before its end, at whatever byte, no decoder takes it for whole.
TEST(broken_off)
{
    make_body();
    for (enum http_codec codec = HTTP_CODEC_GZIP; codec < HTTP_CODECS; codec++) {
        struct compress_stream *stream = stream_of(codec, COMPRESS_BALANCED, UINT64_MAX);
        size_t at = step(stream, (struct slice){body, 2000}, COMPRESS_GO_ON, 0, 16384);
        at = step(stream, (struct slice){NULL, 0}, COMPRESS_FLUSH, at, 16384);
        compress_stream_destroy(stream);
        for (size_t len = 0; len <= at; len++) {
            bool whole = true;
            (void)decode(codec, len, &whole);
            assert_false(whole);
        }
    }
}

// A body shorter than it was said to be does not end well where the length is written down.
TEST(length_told_wrongly)
{
    struct compress_stream *stream = stream_of(HTTP_CODEC_ZSTD, COMPRESS_BALANCED, 1000);
    size_t at = step(stream, (struct slice){body, 500}, COMPRESS_GO_ON, 0, 16384);
    struct slice in = {body + 500, 499};
    size_t written;
    assert_int_equal(compress_stream_run(stream, &in, COMPRESS_END, coded + at, sizeof coded - at, &written),
                     STATUS_INVALID);
    compress_stream_destroy(stream);
}

// zstd's frame says its window, RFC 8878 3.1.1.1.2.
TEST(window_of_zstd)
{
    make_body();
    struct compress_stream *stream = stream_of(HTTP_CODEC_ZSTD, COMPRESS_SMALL, UINT64_MAX);
    size_t at = step(stream, (struct slice){body, BODY_BYTES}, COMPRESS_END, 0, 16384);
    compress_stream_destroy(stream);
    assert_true(at > 6);
    assert_int_equal((unsigned char)coded[4] & 0x20, 0); // no single segment
    assert_int_equal((unsigned char)coded[5] >> 3, COMPRESS_WINDOW_BITS_MAX - 10);
}

TEST(no_memory)
{
    struct compress_stream *stream = NULL;
    heap_fail_after(0);
    for (enum http_codec codec = HTTP_CODEC_GZIP; codec < HTTP_CODECS; codec++)
        assert_int_equal(compress_stream_create(codec, COMPRESS_FAST, UINT64_MAX, &stream), STATUS_NO_MEMORY);
    heap_fail_after(1);
    assert_int_equal(compress_stream_create(HTTP_CODEC_GZIP, COMPRESS_FAST, UINT64_MAX, &stream),
                     STATUS_NO_MEMORY);
    heap_fail_after(-1);
    assert_null(stream);
    compress_stream_destroy(stream);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static size_t in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

// Their memory is bounded, whatever passes through. Sanitizers count otherwise.
TEST(memory)
{
    make_body();
    for (enum http_codec codec = HTTP_CODEC_GZIP; codec < HTTP_CODECS; codec++)
        for (enum compress_level level = COMPRESS_FAST; level <= COMPRESS_SMALL; level++) {
            size_t before = in_use();
            struct compress_stream *stream = stream_of(codec, level, UINT64_MAX);
            for (int i = 0; i < 20; i++)
                (void)step(stream, (struct slice){body, BODY_BYTES}, COMPRESS_GO_ON, 0, 16384);
            size_t bytes = in_use() - before;
            print_message("%s, level %u: %zu bytes\n", http_codec_name(codec).data, level, bytes);
            assert_true(bytes <= COMPRESS_STREAM_BYTES_MAX);
            compress_stream_destroy(stream);
        }
}
#endif
