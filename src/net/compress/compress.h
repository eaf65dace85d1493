// SPDX-License-Identifier: Apache-2.0
// Compression of answers by what their clients accept: what is chosen for an answer, what becomes of its
// head, and streams that code a body piece by piece; and whole bodies decoded, for who must read them.
// Nothing here knows a connection or a clock.
//
// compress_choose is the one place where a codec and its level are chosen, of all that is known of the
// request and the answer. It is told nothing of the body: that comes later, and an answer waits for nobody.
#pragma once

#include "base/text.h"
#include "net/http/codec.h"
#include "net/http/message.h"

enum {
    COMPRESS_CODECS_MAX = HTTP_CODECS - 1,
    COMPRESS_TYPES_MAX = 64,
    COMPRESS_ADDED_MAX = 3, // fields that compress_head_edit adds at most
    COMPRESS_WINDOW_BITS_MAX =
        18 // how far back a stream refers: 256 KiB; clients must allow 8 MiB (RFC 9659)
};

enum compress_level { COMPRESS_FAST, COMPRESS_BALANCED, COMPRESS_SMALL };

struct compress_settings {
    enum http_codec codecs[COMPRESS_CODECS_MAX]; // the first is taken where a client wants several alike
    uint32_t codec_count;                        // 0: nothing is compressed
    enum compress_level level;
    bool credentials;          // also for requests that carry some
    uint64_t bytes_min;        // answers of known and lesser length stay as they are
    const struct slice *types; // "text/html", "text/*"; ASCII case does not matter
    uint32_t type_count;
};

// ---- the choice ----

// What is kept of a request until its answer comes.
struct compress_asked {
    struct http_accepted accepted;
    bool credentials; // it has Cookie or Authorization
    bool weak;        // it has If-None-Match with a weak tag
};

struct compress_asked compress_asked_of(const struct http_fields *fields);

// The head of an answer on its way: what came, without fields that are marked as hop-by-hop, and what is
// added to it. Room for COMPRESS_ADDED_MAX more.
struct compress_head {
    struct http_response *response;
    struct http_field *added;
    size_t added_count;
};

// Why an answer stays as it is.
enum compress_plain {
    COMPRESS_PLAIN_NOT = 0,      // it does not
    COMPRESS_PLAIN_STATUS,       // 204, 205, 206, 304, or a part
    COMPRESS_PLAIN_ENCODED,      // by its origin
    COMPRESS_PLAIN_NO_TRANSFORM, // Cache-Control says so
    COMPRESS_PLAIN_TYPE,         // not listed, none, a stream of events, or gRPC
    COMPRESS_PLAIN_SMALL,
    COMPRESS_PLAIN_NOT_ACCEPTED, // by the client
    COMPRESS_PLAIN_CREDENTIALS,
    COMPRESS_PLAIN_BUSY, // as many streams as may be, or no memory
    COMPRESS_PLAINS,
};

// A word for metrics.
const char *compress_plain_name(enum compress_plain plain);

struct compress_choice {
    enum http_codec codec; // NONE: the answer stays as it is
    enum compress_level level;
    enum compress_plain plain;
    bool varies; // another client might have got it otherwise
};

struct compress_facts {
    const struct compress_settings *settings;
    const struct compress_asked *asked;
    const struct compress_head *head;
    bool busy; // no further stream may begin
};

struct compress_choice compress_choose(const struct compress_facts *facts);

// Makes the head that of the chosen answer: Content-Encoding; Vary; a weak ETag in place of a strong one,
// also in a 304 to whom has a weak one; and without what is true of the bytes as they came only: the length,
// digests (RFC 9530), and that ranges of them can be had. etag: storage that lives until the head is written.
void compress_head_edit(struct compress_head *head, const struct compress_asked *asked,
                        const struct compress_choice *choice, struct text *etag);
// The same for trailers of an answer that is compressed.
void compress_trailers_edit(struct http_fields *trailers);

// ---- streams ----

enum compress_step {
    COMPRESS_GO_ON, // the codec may keep what it likes
    COMPRESS_FLUSH, // all that was given can be read by the client
    COMPRESS_END,   // the last, which makes the coded body whole
};

struct compress_stream;

// bytes: of the body, UINT64_MAX when not known; then COMPRESS_END must come after exactly as many.
// STATUS_NO_MEMORY. Memory does not grow with the body: at most COMPRESS_STREAM_BYTES_MAX.
MUST_USE enum status compress_stream_create(enum http_codec codec, enum compress_level level, uint64_t bytes,
                                            struct compress_stream **stream);
#define COMPRESS_STREAM_BYTES_MAX ((size_t)6 << 20)
// Takes from *in and writes at most cap bytes. STATUS_AGAIN: call again with the same step, there is more to
// write. STATUS_OK: all of *in was taken, and the step is done. STATUS_NO_MEMORY, STATUS_INVALID: the stream
// is lost, and its body must not look complete.
MUST_USE enum status compress_stream_run(struct compress_stream *stream, struct slice *in,
                                         enum compress_step step, char *out, size_t cap, size_t *written);
// At any time; without COMPRESS_END what was written is no whole body to any decoder. NULL is allowed.
void compress_stream_destroy(struct compress_stream *stream);

// ---- decoding ----

struct compress_decoded {
    struct slice body;
    void *memory; // of the body, for heap_free; NULL: it is the body as it came
};

// Takes off all that Content-Encoding says was done to a whole body: gzip, br and zstd, at most two of them
// one upon the other. Takes time and memory for at most `most` bytes of each, whatever they would become.
// FULL: they become more. CORRUPT: they end early, go on behind their end, or are none. UNSUPPORTED: another
// coding, or more of them. NO_MEMORY.
MUST_USE enum status compress_decode(const struct http_field *fields, uint32_t field_count, struct slice body,
                                     size_t most, struct compress_decoded *decoded);
