// SPDX-License-Identifier: Apache-2.0
// br, by libbrotlienc.
#include <brotli/encode.h>

#include "net/compress/compress_private.h"

static void *create(enum compress_level level, uint64_t bytes)
{
    static const uint32_t levels[] = {[COMPRESS_FAST] = 3, [COMPRESS_BALANCED] = 5, [COMPRESS_SMALL] = 6};
    BrotliEncoderState *encoder = BrotliEncoderCreateInstance(NULL, NULL, NULL);
    if (encoder == NULL)
        return NULL;
    (void)BrotliEncoderSetParameter(encoder, BROTLI_PARAM_QUALITY, levels[level]);
    (void)BrotliEncoderSetParameter(encoder, BROTLI_PARAM_LGWIN, COMPRESS_WINDOW_BITS_MAX);
    if (bytes < UINT32_MAX)
        (void)BrotliEncoderSetParameter(encoder, BROTLI_PARAM_SIZE_HINT, (uint32_t)bytes);
    return encoder;
}

static void destroy(void *state)
{
    BrotliEncoderDestroyInstance(state);
}

static enum status run(void *state, struct slice *in, enum compress_step step, char *out, size_t cap,
                       size_t *written)
{
    static const BrotliEncoderOperation operations[] = {[COMPRESS_GO_ON] = BROTLI_OPERATION_PROCESS,
                                                        [COMPRESS_FLUSH] = BROTLI_OPERATION_FLUSH,
                                                        [COMPRESS_END] = BROTLI_OPERATION_FINISH};
    const uint8_t *next_in = (const uint8_t *)in->data;
    uint8_t *next_out = (uint8_t *)out;
    size_t room = cap;
    if (!BrotliEncoderCompressStream(state, operations[step], &in->len, &next_in, &room, &next_out, NULL))
        return STATUS_NO_MEMORY;
    in->data = (const char *)next_in;
    *written = cap - room;
    if (step == COMPRESS_END)
        return BrotliEncoderIsFinished(state) ? STATUS_OK : STATUS_AGAIN;
    return in->len == 0 && !BrotliEncoderHasMoreOutput(state) ? STATUS_OK : STATUS_AGAIN;
}

const struct compress_codec compress_brotli = {.create = create, .destroy = destroy, .run = run};
