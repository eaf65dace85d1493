// SPDX-License-Identifier: Apache-2.0
// Compression of answers: from the file's words to the settings of a route, and what Prometheus reads of it.
#include "base/check.h"
#include "net/compress/compress.h"
#include "net/http/codec.h"
#include "operate/metrics/exposition.h"
#include "ship/routing/routing_private.h"

#define TYPE(text)                                                                                           \
    {                                                                                                        \
        (text), sizeof(text) - 1                                                                             \
    }
static const struct slice usual_types[] = {TYPE("text/*"),
                                           TYPE("application/json"),
                                           TYPE("application/ld+json"),
                                           TYPE("application/problem+json"),
                                           TYPE("application/manifest+json"),
                                           TYPE("application/geo+json"),
                                           TYPE("application/graphql-response+json"),
                                           TYPE("application/javascript"),
                                           TYPE("application/xml"),
                                           TYPE("application/xhtml+xml"),
                                           TYPE("application/rss+xml"),
                                           TYPE("application/atom+xml"),
                                           TYPE("application/wasm"),
                                           TYPE("application/vnd.ms-fontobject"),
                                           TYPE("font/ttf"),
                                           TYPE("font/otf"),
                                           TYPE("image/svg+xml"),
                                           TYPE("image/x-icon"),
                                           TYPE("image/vnd.microsoft.icon")};

struct compress_settings routing_compression_of(const struct config_compression *from, struct slice *types)
{
    static const enum compress_level levels[] = {[CONFIG_LEVEL_FAST] = COMPRESS_FAST,
                                                 [CONFIG_LEVEL_BALANCED] = COMPRESS_BALANCED,
                                                 [CONFIG_LEVEL_SMALL] = COMPRESS_SMALL};
    struct compress_settings settings = {.level = levels[from->level],
                                         .credentials = from->credentials,
                                         .bytes_min = from->bytes_min,
                                         .types = usual_types,
                                         .type_count = ARRAY_LEN(usual_types)};
    if (from->state != CONFIG_COMPRESSION_ON)
        return (struct compress_settings){.codec_count = 0};
    settings.codec_count = from->codec_count;
    for (uint32_t i = 0; i < from->codec_count; i++)
        settings.codecs[i] = from->codecs[i];
    for (uint32_t i = 0; i < from->type_count; i++)
        types[i] = slice_of(from->types[i]);
    if (from->type_count > 0) {
        settings.types = types;
        settings.type_count = from->type_count;
    }
    return settings;
}

METRICS_FAMILY(compressed, COUNTER, "compressed_answers_total", "Answers that were compressed, by codec.");
METRICS_FAMILY(compressed_bytes, COUNTER, "compressed_bytes_total",
               "Bytes of the bodies of such answers: in from the origin, out to the client.");
METRICS_FAMILY(plain, COUNTER, "uncompressed_answers_total",
               "Answers of routes that compress which stayed as they were, by reason.");

// The counters from `first` on stand for the codecs in their order.
static void write_codecs(const uint64_t *counts, enum proxy_worker_counter first, const char *direction,
                         struct metrics_writer *w)
{
    for (enum http_codec codec = HTTP_CODEC_GZIP; codec < HTTP_CODECS; codec++) {
        struct metrics_label labels[] = {metrics_label_of("codec", http_codec_name(codec).data),
                                         metrics_label_of("direction", direction)};
        metrics_count(w, labels, direction[0] != '\0' ? 2 : 1, counts[first + codec - 1]);
    }
}

void routing_compression_metrics(const struct routing *routing, struct metrics_writer *writer)
{
    uint64_t counts[PROXY_WORKER_COUNTERS], sums[PROXY_WORKER_COUNTERS] = {0};
    for (uint32_t worker = 0; worker < proxy_worker_count(routing->proxy); worker++) {
        proxy_worker_counts(routing->proxy, worker, counts);
        for (int i = PROXY_WORKER_NAMED; i < PROXY_WORKER_COUNTERS; i++)
            sums[i] += counts[i];
    }
    metrics_open(writer, &compressed);
    write_codecs(sums, PROXY_WORKER_COMPRESSED, "", writer);
    metrics_open(writer, &compressed_bytes);
    write_codecs(sums, PROXY_WORKER_COMPRESSED_IN, "in", writer);
    write_codecs(sums, PROXY_WORKER_COMPRESSED_OUT, "out", writer);
    metrics_open(writer, &plain);
    for (enum compress_plain reason = COMPRESS_PLAIN_STATUS; reason < COMPRESS_PLAINS; reason++) {
        struct metrics_label label = metrics_label_of("reason", compress_plain_name(reason));
        metrics_count(writer, &label, 1, sums[PROXY_WORKER_PLAIN + reason - 1]);
    }
}
