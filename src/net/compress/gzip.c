// SPDX-License-Identifier: Apache-2.0
// gzip, by zlib.
#include <limits.h>
#define ZLIB_CONST
#include <zlib.h>

#include "base/heap.h"
#include "net/compress/compress_private.h"

enum {
    WINDOW_BITS_MIN = 9,
    WINDOW_BITS_MAX = 15,
    GZIP_WRAPPER = 16, // added to the window's bits
};

static void *create(enum compress_level level, uint64_t bytes)
{
    static const int levels[] = {[COMPRESS_FAST] = 1, [COMPRESS_BALANCED] = 5, [COMPRESS_SMALL] = 7};
    z_stream *z = heap_alloc(1, sizeof *z);
    int bits = WINDOW_BITS_MAX;
    int memory = 8; // as much for the tables as zlib takes by itself
    for (; bits > WINDOW_BITS_MIN && bytes <= 1u << (bits - 1); bits--)
        memory--;
    if (z != NULL &&
        deflateInit2(z, levels[level], Z_DEFLATED, bits + GZIP_WRAPPER, memory, Z_DEFAULT_STRATEGY) == Z_OK)
        return z;
    heap_free(z);
    return NULL;
}

static void destroy(void *state)
{
    (void)deflateEnd(state); // that the body was not whole is no news
    heap_free(state);
}

static enum status run(void *state, struct slice *in, enum compress_step step, char *out, size_t cap,
                       size_t *written)
{
    static const int flushes[] = {
        [COMPRESS_GO_ON] = Z_NO_FLUSH, [COMPRESS_FLUSH] = Z_SYNC_FLUSH, [COMPRESS_END] = Z_FINISH};
    z_stream *z = state;
    uInt taken = in->len < UINT_MAX ? (uInt)in->len : UINT_MAX;
    uInt room = cap < UINT_MAX ? (uInt)cap : UINT_MAX;
    z->next_in = (const Bytef *)in->data;
    z->avail_in = taken;
    z->next_out = (Bytef *)out;
    z->avail_out = room;
    int result = deflate(z, taken < in->len ? Z_NO_FLUSH : flushes[step]);
    taken -= z->avail_in;
    *in = (struct slice){in->data + taken, in->len - taken};
    *written = room - z->avail_out;
    if (result == Z_STREAM_ERROR)
        return STATUS_INVALID;
    if (step == COMPRESS_END)
        return result == Z_STREAM_END ? STATUS_OK : STATUS_AGAIN;
    return in->len == 0 && z->avail_out > 0 ? STATUS_OK : STATUS_AGAIN;
}

const struct compress_codec compress_gzip = {.create = create, .destroy = destroy, .run = run};
