// SPDX-License-Identifier: Apache-2.0
// zstd, by libzstd.
#include <zstd.h>

#include "net/compress/compress_private.h"

static bool set_up(ZSTD_CCtx *context, int level, uint64_t bytes)
{
    size_t set = ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
    size_t window = ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, COMPRESS_WINDOW_BITS_MAX);
    size_t pledged = bytes != UINT64_MAX ? ZSTD_CCtx_setPledgedSrcSize(context, bytes) : 0;
    return !ZSTD_isError(set) && !ZSTD_isError(window) && !ZSTD_isError(pledged);
}

static void destroy(void *state)
{
    (void)ZSTD_freeCCtx(state);
}

static void *create(enum compress_level level, uint64_t bytes)
{
    static const int levels[] = {[COMPRESS_FAST] = 1, [COMPRESS_BALANCED] = 3, [COMPRESS_SMALL] = 6};
    ZSTD_CCtx *context = ZSTD_createCCtx();
    if (context != NULL && set_up(context, levels[level], bytes))
        return context;
    destroy(context);
    return NULL;
}

static enum status run(void *state, struct slice *in, enum compress_step step, char *out, size_t cap,
                       size_t *written)
{
    static const ZSTD_EndDirective directives[] = {
        [COMPRESS_GO_ON] = ZSTD_e_continue, [COMPRESS_FLUSH] = ZSTD_e_flush, [COMPRESS_END] = ZSTD_e_end};
    ZSTD_inBuffer from = {in->data, in->len, 0};
    ZSTD_outBuffer to = {out, cap, 0};
    size_t left = ZSTD_compressStream2(state, &to, &from, directives[step]);
    if (ZSTD_isError(left))
        return STATUS_INVALID;
    *in = (struct slice){in->data + from.pos, in->len - from.pos};
    *written = to.pos;
    if (step == COMPRESS_GO_ON)
        return in->len == 0 && to.pos < cap ? STATUS_OK : STATUS_AGAIN;
    return left == 0 ? STATUS_OK : STATUS_AGAIN;
}

const struct compress_codec compress_zstd = {.create = create, .destroy = destroy, .run = run};
