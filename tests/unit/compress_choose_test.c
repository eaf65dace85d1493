// SPDX-License-Identifier: Apache-2.0
// Which answers are compressed, and what becomes of their heads.
#include "base/check.h"
#include "net/compress/compress.h"
#include "test.h"

static const struct slice types[] = {{"text/*", 6}, {"application/json", 16}};
static const struct compress_settings settings = {.codecs = {HTTP_CODEC_ZSTD, HTTP_CODEC_BR, HTTP_CODEC_GZIP},
                                                  .codec_count = 3,
                                                  .level = COMPRESS_SMALL,
                                                  .bytes_min = 100,
                                                  .types = types,
                                                  .type_count = ARRAY_LEN(types)};

struct pair {
    const char *name, *value;
};

// A request and its answer. Lists end with a NULL.
struct world {
    struct http_fields request;
    struct http_response response;
    struct http_field added[8];
    struct compress_head head;
    struct compress_asked asked;
    struct compress_choice choice;
    char storage[64];
};

static void fill(struct http_fields *fields, const struct pair *pairs)
{
    fields->count = 0;
    fields->present = 0;
    for (; pairs->name != NULL; pairs++)
        assert_int_equal(http_fields_add(fields, slice_of(pairs->name), slice_of(pairs->value)), STATUS_OK);
}

static void answer(struct world *world, unsigned status, const struct pair *pairs)
{
    fill(&world->response.fields, pairs);
    world->response.status = (uint16_t)status;
    world->response.framing = HTTP_FRAMING_LENGTH;
    world->response.has_content_length = true;
    world->response.content_length = 5000;
    world->head = (struct compress_head){.response = &world->response, .added = world->added};
}

static enum compress_plain choose(struct world *world, const struct compress_settings *by, bool busy)
{
    world->asked = compress_asked_of(&world->request);
    const struct compress_facts facts = {
        .settings = by, .asked = &world->asked, .head = &world->head, .busy = busy};
    world->choice = compress_choose(&facts);
    assert_true((world->choice.codec == HTTP_CODEC_NONE) == (world->choice.plain != COMPRESS_PLAIN_NOT));
    return world->choice.plain;
}

static void edit(struct world *world)
{
    struct text etag = text_over(world->storage, sizeof world->storage);
    compress_head_edit(&world->head, &world->asked, &world->choice, &etag);
}

// All values of a name that the client gets, with '|' between them.
static const char *got(const struct world *world, const char *name)
{
    static char text[256];
    struct text out = text_over(text, sizeof text - 1);
    const struct http_fields *fields = &world->response.fields;
    for (uint32_t i = 0; i < fields->count + world->head.added_count; i++) {
        const struct http_field *field =
            i < fields->count ? &fields->items[i] : &world->head.added[i - fields->count];
        if (!slice_equal_nocase(field->name, slice_of(name)) || (field->marks & HTTP_FIELD_HOP) != 0)
            continue;
        text_add(&out, out.len > 0 ? SLICE("|") : SLICE(""));
        text_add(&out, field->value);
    }
    text[out.len] = '\0';
    return text;
}

static const struct pair html[] = {{"Content-Type", "text/html; charset=utf-8"}, {NULL, NULL}};
static const struct pair all_codecs[] = {{"Accept-Encoding", "gzip, br, zstd"}, {NULL, NULL}};

TEST(the_best_codec_of_both)
{
    static const struct {
        const char *accepted;
        enum http_codec codec;
    } rows[] = {{"gzip, br, zstd", HTTP_CODEC_ZSTD},
                {"gzip, br", HTTP_CODEC_BR},
                {"gzip;q=1, br;q=0.9, zstd;q=0.8", HTTP_CODEC_GZIP},
                {"*", HTTP_CODEC_ZSTD},
                {"*, zstd;q=0", HTTP_CODEC_BR},
                {"deflate", HTTP_CODEC_NONE},
                {"identity, gzip", HTTP_CODEC_GZIP},
                {"identity;q=1, gzip;q=0.5", HTTP_CODEC_NONE},
                {"gzip;q=0.001", HTTP_CODEC_GZIP},
                {"identity;q=0, gzip;q=0.001", HTTP_CODEC_GZIP},
                {"*;q=0", HTTP_CODEC_NONE}};
    struct world world;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct pair pairs[] = {{"Accept-Encoding", rows[i].accepted}, {NULL, NULL}};
        fill(&world.request, pairs);
        answer(&world, 200, html);
        (void)choose(&world, &settings, false);
        if (world.choice.codec != rows[i].codec)
            fail_msg("%s: got %u", rows[i].accepted, world.choice.codec);
        assert_true(world.choice.varies);
        assert_int_equal(world.choice.level, COMPRESS_SMALL);
    }
    struct compress_settings gzip_first = settings;
    gzip_first.codecs[0] = HTTP_CODEC_GZIP;
    gzip_first.codec_count = 1;
    fill(&world.request, all_codecs);
    (void)choose(&world, &gzip_first, false);
    assert_int_equal(world.choice.codec, HTTP_CODEC_GZIP);
}

TEST(types)
{
    static const struct {
        const char *type;
        enum compress_plain plain;
    } rows[] = {{"text/html", COMPRESS_PLAIN_NOT},
                {"TEXT/Plain ;charset=utf-8", COMPRESS_PLAIN_NOT},
                {"application/json", COMPRESS_PLAIN_NOT},
                {"Application/JSON; x=y", COMPRESS_PLAIN_NOT},
                {"application/json5", COMPRESS_PLAIN_TYPE},
                {"application/jso", COMPRESS_PLAIN_TYPE},
                {"text", COMPRESS_PLAIN_TYPE},
                {"image/png", COMPRESS_PLAIN_TYPE},
                {"text/event-stream", COMPRESS_PLAIN_TYPE},
                {"Text/Event-Stream; charset=utf-8", COMPRESS_PLAIN_TYPE},
                {"", COMPRESS_PLAIN_TYPE}};
    struct world world;
    fill(&world.request, all_codecs);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct pair pairs[] = {{"Content-Type", rows[i].type}, {NULL, NULL}};
        answer(&world, 200, pairs);
        assert_int_equal(choose(&world, &settings, false), rows[i].plain);
        assert_int_equal(world.choice.varies, rows[i].plain == COMPRESS_PLAIN_NOT);
    }
    const struct pair none[] = {{NULL, NULL}};
    answer(&world, 200, none);
    assert_int_equal(choose(&world, &settings, false), COMPRESS_PLAIN_TYPE);
    // Whoever lists everything does not mean gRPC, which frames its messages by their length.
    static const struct slice any[] = {{"*", 1}, {"application/*", 13}};
    struct compress_settings wide = settings;
    wide.types = any;
    wide.type_count = ARRAY_LEN(any);
    const struct pair grpc[] = {{"Content-Type", "application/grpc+proto"}, {NULL, NULL}};
    answer(&world, 200, grpc);
    assert_int_equal(choose(&world, &wide, false), COMPRESS_PLAIN_TYPE);
}

TEST(answers_that_stay)
{
    struct world world;
    fill(&world.request, all_codecs);
    static const uint16_t statuses[] = {204, 205, 206, 304};
    for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
        answer(&world, statuses[i], html);
        assert_int_equal(choose(&world, &settings, false), COMPRESS_PLAIN_STATUS);
        assert_int_equal(world.choice.varies, statuses[i] == 304);
    }
    static const struct {
        struct pair pair;
        enum compress_plain plain;
    } rows[] = {{{"Content-Range", "bytes */10"}, COMPRESS_PLAIN_STATUS},
                {{"Content-Encoding", "gzip"}, COMPRESS_PLAIN_ENCODED},
                {{"Content-Encoding", "unknown"}, COMPRESS_PLAIN_ENCODED},
                {{"Content-Encoding", "identity"}, COMPRESS_PLAIN_NOT},
                {{"Cache-Control", "public, No-Transform"}, COMPRESS_PLAIN_NO_TRANSFORM},
                {{"Cache-Control", "private"}, COMPRESS_PLAIN_NOT}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct pair pairs[] = {html[0], rows[i].pair, {NULL, NULL}};
        answer(&world, 200, pairs);
        assert_int_equal(choose(&world, &settings, false), rows[i].plain);
        // What a rule of the route took out says nothing, what it added does.
        world.response.fields.items[1].marks |= HTTP_FIELD_HOP;
        assert_int_equal(choose(&world, &settings, false), COMPRESS_PLAIN_NOT);
        world.added[0] =
            (struct http_field){.name = slice_of(rows[i].pair.name), .value = slice_of(rows[i].pair.value)};
        world.head.added_count = 1;
        assert_int_equal(choose(&world, &settings, false), rows[i].plain);
    }
}

TEST(lengths)
{
    struct world world;
    fill(&world.request, all_codecs);
    answer(&world, 200, html);
    world.response.content_length = 99;
    assert_int_equal(choose(&world, &settings, false), COMPRESS_PLAIN_SMALL);
    assert_false(world.choice.varies);
    world.response.content_length = 100;
    assert_int_equal(choose(&world, &settings, false), COMPRESS_PLAIN_NOT);
    world.response.framing = HTTP_FRAMING_CHUNKED;
    world.response.has_content_length = false;
    assert_int_equal(choose(&world, &settings, false), COMPRESS_PLAIN_NOT);
    struct compress_settings all = settings;
    all.bytes_min = 0;
    world.response.has_content_length = true;
    world.response.content_length = 0;
    assert_int_equal(choose(&world, &all, false), COMPRESS_PLAIN_SMALL);
    world.response.content_length = 1;
    assert_int_equal(choose(&world, &all, false), COMPRESS_PLAIN_NOT);
}

TEST(what_requests_say)
{
    static const struct {
        struct pair pair;
        enum compress_plain plain, asked; // by default, and with `credentials`
    } rows[] = {{{"Cookie", "a=b"}, COMPRESS_PLAIN_CREDENTIALS, COMPRESS_PLAIN_NOT},
                {{"Authorization", "Basic eA=="}, COMPRESS_PLAIN_CREDENTIALS, COMPRESS_PLAIN_NOT},
                {{"Cache-Control", "no-transform"}, COMPRESS_PLAIN_NOT_ACCEPTED, COMPRESS_PLAIN_NOT_ACCEPTED},
                {{"Range", "bytes=0-1"}, COMPRESS_PLAIN_NOT, COMPRESS_PLAIN_NOT}};
    struct compress_settings with = settings;
    with.credentials = true;
    struct world world;
    answer(&world, 200, html);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct pair pairs[] = {all_codecs[0], rows[i].pair, {NULL, NULL}};
        fill(&world.request, pairs);
        assert_int_equal(choose(&world, &settings, false), rows[i].plain);
        assert_true(world.choice.varies);
        assert_int_equal(choose(&world, &with, false), rows[i].asked);
    }
    fill(&world.request, all_codecs);
    assert_int_equal(choose(&world, &settings, true), COMPRESS_PLAIN_BUSY);
    assert_true(world.choice.varies);
}

TEST(head_of_a_compressed_answer)
{
    static const struct pair pairs[] = {{"Content-Type", "text/html"},
                                        {"ETag", "\"v1\""},
                                        {"Accept-Ranges", "bytes"},
                                        {"Content-MD5", "x"},
                                        {"Content-Digest", "sha-256=:eA==:"},
                                        {"Repr-Digest", "sha-256=:eA==:"},
                                        {"Digest", "sha-256=eA=="},
                                        {"Vary", "Origin"},
                                        {"Content-Encoding", "identity"},
                                        {"Last-Modified", "Tue, 01 Jan 2030 00:00:00 GMT"},
                                        {NULL, NULL}};
    struct world world;
    fill(&world.request, all_codecs);
    answer(&world, 200, pairs);
    assert_int_equal(choose(&world, &settings, false), COMPRESS_PLAIN_NOT);
    edit(&world);
    assert_string_equal(got(&world, "content-encoding"), "zstd");
    assert_string_equal(got(&world, "etag"), "W/\"v1\"");
    assert_string_equal(got(&world, "vary"), "Origin|Accept-Encoding");
    assert_string_equal(got(&world, "accept-ranges"), "");
    assert_string_equal(got(&world, "content-md5"), "");
    assert_string_equal(got(&world, "content-digest"), "");
    assert_string_equal(got(&world, "repr-digest"), "");
    assert_string_equal(got(&world, "digest"), "");
    assert_string_equal(got(&world, "last-modified"), "Tue, 01 Jan 2030 00:00:00 GMT");
    assert_int_equal(world.response.framing, HTTP_FRAMING_CHUNKED);
    assert_false(world.response.has_content_length);
    // The answer to HEAD has the same head, and no body.
    answer(&world, 200, pairs);
    world.response.framing = HTTP_FRAMING_NONE;
    (void)choose(&world, &settings, false);
    edit(&world);
    assert_string_equal(got(&world, "content-encoding"), "zstd");
    assert_int_equal(world.response.framing, HTTP_FRAMING_NONE);
    assert_false(world.response.has_content_length);
}

TEST(tags)
{
    static const struct {
        const char *came, *goes;
    } rows[] = {{"W/\"v1\"", "W/\"v1\""},
                {"\"\"", "W/\"\""},
                {"v1", ""},
                {"\"0123456789012345678901234567890123456789012345678901234567890123\"", ""}};
    struct world world;
    fill(&world.request, all_codecs);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct pair pairs[] = {html[0], {"ETag", rows[i].came}, {NULL, NULL}};
        answer(&world, 200, pairs);
        (void)choose(&world, &settings, false);
        edit(&world);
        assert_string_equal(got(&world, "etag"), rows[i].goes);
    }
}

TEST(vary)
{
    static const struct {
        const char *came, *goes;
    } rows[] = {{"*", "*"},
                {"Origin, accept-encoding", "Origin, accept-encoding"},
                {"Accept", "Accept|Accept-Encoding"}};
    struct world world;
    const struct pair nothing[] = {{NULL, NULL}};
    fill(&world.request, nothing);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct pair pairs[] = {html[0], {"Vary", rows[i].came}, {"ETag", "\"v1\""}, {NULL, NULL}};
        answer(&world, 200, pairs);
        assert_int_equal(choose(&world, &settings, false), COMPRESS_PLAIN_NOT_ACCEPTED);
        edit(&world);
        assert_string_equal(got(&world, "vary"), rows[i].goes);
        // All else is as it came.
        assert_string_equal(got(&world, "etag"), "\"v1\"");
        assert_string_equal(got(&world, "content-encoding"), "");
        assert_true(world.response.has_content_length);
    }
}

// What a client has by a weak tag is confirmed by a weak tag, or its cache could not take the answer for the
// stored one (RFC 9111 4.3.4).
TEST(not_modified)
{
    static const struct {
        const char *asked, *goes;
    } rows[] = {{"W/\"v1\"", "W/\"v1\""}, {"\"v0\", W/\"v1\"", "W/\"v1\""}, {"\"v1\"", "\"v1\""}};
    const struct pair pairs[] = {{"ETag", "\"v1\""}, {NULL, NULL}};
    struct world world;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct pair asked[] = {all_codecs[0], {"If-None-Match", rows[i].asked}, {NULL, NULL}};
        fill(&world.request, asked);
        answer(&world, 304, pairs);
        world.response.framing = HTTP_FRAMING_NONE;
        (void)choose(&world, &settings, false);
        edit(&world);
        assert_string_equal(got(&world, "etag"), rows[i].goes);
        assert_string_equal(got(&world, "vary"), "Accept-Encoding");
        assert_string_equal(got(&world, "content-encoding"), "");
    }
}

TEST(digests_in_trailers)
{
    const struct pair pairs[] = {{"Content-Digest", "sha-256=:eA==:"}, {"Server-Timing", "db"}, {NULL, NULL}};
    struct http_fields trailers;
    fill(&trailers, pairs);
    compress_trailers_edit(&trailers);
    assert_true((trailers.items[0].marks & HTTP_FIELD_HOP) != 0);
    assert_true((trailers.items[1].marks & HTTP_FIELD_HOP) == 0);
}
