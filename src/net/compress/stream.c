// SPDX-License-Identifier: Apache-2.0
// Streams of any codec: what is common to them.
#include "base/check.h"
#include "base/heap.h"
#include "net/compress/compress_private.h"

struct compress_stream {
    const struct compress_codec *codec;
    void *state; // the library's
};

enum status compress_stream_create(enum http_codec codec, enum compress_level level, uint64_t bytes,
                                   struct compress_stream **stream)
{
    static const struct compress_codec *const codecs[HTTP_CODECS] = {[HTTP_CODEC_GZIP] = &compress_gzip,
                                                                     [HTTP_CODEC_BR] = &compress_brotli,
                                                                     [HTTP_CODEC_ZSTD] = &compress_zstd};
    CHECK(codec > HTTP_CODEC_NONE && codec < HTTP_CODECS);
    struct compress_stream *made = heap_alloc(1, sizeof *made);
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->codec = codecs[codec];
    made->state = made->codec->create(level, bytes);
    if (made->state == NULL) {
        heap_free(made);
        return STATUS_NO_MEMORY;
    }
    *stream = made;
    return STATUS_OK;
}

enum status compress_stream_run(struct compress_stream *stream, struct slice *in, enum compress_step step,
                                char *out, size_t cap, size_t *written)
{
    CHECK(cap > 0);
    return stream->codec->run(stream->state, in, step, out, cap, written);
}

void compress_stream_destroy(struct compress_stream *stream)
{
    if (stream == NULL)
        return;
    stream->codec->destroy(stream->state);
    heap_free(stream);
}
