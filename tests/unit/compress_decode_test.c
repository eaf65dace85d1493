// SPDX-License-Identifier: Apache-2.0
// Bodies decoded: by each codec and by two, within a limit; broken, unknown and bursting ones refused.
#include "base/check.h"
#include "base/heap.h"
#include "net/compress/compress.h"
#include "test.h"

enum { CODED_BYTES = 65536, BODY_BYTES = 100000 };

static char body[BODY_BYTES];

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)('a' + i % 7 * (i / 1000) % 26);
    return 0;
}
EACH_TEST(set_up, NULL);

// Returns the end of what is coded.
static size_t encode(enum http_codec codec, struct slice in, char coded[CODED_BYTES])
{
    struct compress_stream *stream;
    size_t at = 0, written;
    enum status status;
    assert_int_equal(compress_stream_create(codec, COMPRESS_BALANCED, in.len, &stream), STATUS_OK);
    do {
        assert_true(at < CODED_BYTES);
        status = compress_stream_run(stream, &in, COMPRESS_END, coded + at, CODED_BYTES - at, &written);
        at += written;
    } while (status == STATUS_AGAIN);
    assert_int_equal(status, STATUS_OK);
    compress_stream_destroy(stream);
    return at;
}

static enum status decode(const char *codings, struct slice coded, size_t most,
                          struct compress_decoded *decoded)
{
    struct http_field fields[2] = {{.name = SLICE("Content-Type"), .value = SLICE("br")},
                                   {.name = SLICE("Content-Encoding"), .value = slice_of(codings)}};
    return compress_decode(fields, 2, coded, most, decoded);
}

static const char *name_of(enum http_codec codec)
{
    static char name[8];
    struct text text = text_over(name, sizeof name);
    text_add(&text, http_codec_name(codec));
    return name;
}

TEST(each_codec_within_its_limit)
{
    static char coded[CODED_BYTES];
    static const size_t lengths[] = {0, 1, 4095, 4096, 4097, BODY_BYTES};
    for (enum http_codec codec = HTTP_CODEC_GZIP; codec < HTTP_CODECS; codec++)
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
            struct compress_decoded decoded;
            size_t len = encode(codec, (struct slice){body, lengths[i]}, coded);
            assert_int_equal(decode(name_of(codec), (struct slice){coded, len}, lengths[i], &decoded),
                             STATUS_OK);
            assert_int_equal(decoded.body.len, lengths[i]);
            assert_memory_equal(decoded.body.data, body, lengths[i]);
            heap_free(decoded.memory);
            if (lengths[i] > 0)
                assert_int_equal(decode(name_of(codec), (struct slice){coded, len}, lengths[i] - 1, &decoded),
                                 STATUS_FULL);
        }
}

TEST(broken_bodies)
{
    static char coded[CODED_BYTES];
    struct compress_decoded decoded;
    for (enum http_codec codec = HTTP_CODEC_GZIP; codec < HTTP_CODECS; codec++) {
        size_t len = encode(codec, (struct slice){body, 3000}, coded);
        for (size_t cut = 1; cut < len; cut++)
            assert_int_equal(decode(name_of(codec), (struct slice){coded, cut}, BODY_BYTES, &decoded),
                             STATUS_CORRUPT);
        coded[len] = 'x';
        assert_int_equal(decode(name_of(codec), (struct slice){coded, len + 1}, BODY_BYTES, &decoded),
                         STATUS_CORRUPT);
        assert_int_equal(decode(name_of(codec), SLICE("no such thing"), BODY_BYTES, &decoded),
                         STATUS_CORRUPT);
    }
}

TEST(codings_of_the_head)
{
    static char once[CODED_BYTES], twice[CODED_BYTES];
    struct compress_decoded decoded;
    struct slice gzip = {once, encode(HTTP_CODEC_GZIP, (struct slice){body, 5000}, once)};
    struct slice both = {twice, encode(HTTP_CODEC_BR, gzip, twice)};
    assert_int_equal(decode("X-GZip, identity", gzip, 5000, &decoded), STATUS_OK);
    assert_int_equal(decoded.body.len, 5000);
    heap_free(decoded.memory);
    assert_int_equal(decode("gzip , br", both, 5000, &decoded), STATUS_OK);
    assert_int_equal(decoded.body.len, 5000);
    assert_memory_equal(decoded.body.data, body, 5000);
    heap_free(decoded.memory);
    assert_int_equal(decode("br, gzip", both, 5000, &decoded), STATUS_CORRUPT);
    assert_int_equal(decode("gzip, br, gzip", both, 5000, &decoded), STATUS_UNSUPPORTED);
    assert_int_equal(decode("deflate", both, 5000, &decoded), STATUS_UNSUPPORTED);
    assert_int_equal(decode("gzip", SLICE(""), 5000, &decoded), STATUS_OK);
    assert_int_equal(decoded.body.len, 0);
    assert_int_equal(decode("", SLICE("as it is"), 5000, &decoded), STATUS_OK);
    assert_true(slice_equal(decoded.body, SLICE("as it is")) && decoded.memory == NULL);
}

// Two members, or frames, are one body; brotli has none of that.
TEST(bodies_of_several_parts)
{
    static char coded[2 * CODED_BYTES];
    for (enum http_codec codec = HTTP_CODEC_GZIP; codec < HTTP_CODECS; codec++) {
        struct compress_decoded decoded;
        size_t len = encode(codec, (struct slice){body, 500}, coded);
        len += encode(codec, (struct slice){body + 500, 700}, coded + len);
        enum status status = decode(name_of(codec), (struct slice){coded, len}, 5000, &decoded);
        assert_int_equal(status, codec == HTTP_CODEC_BR ? STATUS_CORRUPT : STATUS_OK);
        if (status != STATUS_OK)
            continue;
        assert_int_equal(decoded.body.len, 1200);
        assert_memory_equal(decoded.body.data, body, 1200);
        heap_free(decoded.memory);
    }
}

// 64 MiB of zeros in a few kilobytes, and the same once more around it: no more memory than was allowed.
TEST(bombs)
{
    enum { BOMB_BYTES = 64 << 20, MOST = 1 << 20 };
    static char once[CODED_BYTES * 2], twice[CODED_BYTES];
    char *zeros = heap_alloc(BOMB_BYTES, 1);
    assert_non_null(zeros);
    for (enum http_codec codec = HTTP_CODEC_BR; codec < HTTP_CODECS; codec++) {
        struct compress_decoded decoded;
        struct slice inner = {once, encode(codec, (struct slice){zeros, BOMB_BYTES}, once)};
        struct slice outer = {twice, encode(HTTP_CODEC_GZIP, inner, twice)};
        char codings[16];
        snprintf(codings, sizeof codings, "%s, gzip", name_of(codec));
        assert_true(outer.len < 16384);
        assert_int_equal(decode(codings, outer, MOST, &decoded), STATUS_FULL);
    }
    heap_free(zeros);
}

TEST(without_memory)
{
    static char coded[CODED_BYTES];
    struct slice gzip = {coded, encode(HTTP_CODEC_GZIP, (struct slice){body, BODY_BYTES}, coded)};
    struct compress_decoded decoded;
    enum status status;
    long after = 0;
    do {
        heap_fail_after(after++);
        status = decode("gzip", gzip, BODY_BYTES, &decoded);
        heap_fail_after(-1);
    } while (status == STATUS_NO_MEMORY);
    assert_true(status == STATUS_OK && after > 3);
    heap_free(decoded.memory);
}
