// SPDX-License-Identifier: Apache-2.0
// Timeouts of the file, and of one service where it has its own.
#include "base/check.h"
#include "daemon/config/config_private.h"

#define TIMEOUT(name, member, least, most, default_text, text)                                               \
    {                                                                                                        \
        .word = (name), .kind = CONFIG_KIND_DURATION, CONFIG_AT(struct config_timeouts, member),             \
        .min = (least), .max = (most), .fallback = (default_text), .help = (text)                            \
    }
#define SERVICE_TIMEOUTS                                                                                     \
    TIMEOUT("connect", connect_ms, 1, CONFIG_MINUTES(10), "2s", "to connect to an endpoint"),                \
        TIMEOUT("first_byte", first_byte_ms, 1, CONFIG_DAY, "15s",                                           \
                "from the request sent on to the first byte of the answer"),                                 \
        TIMEOUT("idle", idle_ms, 1, CONFIG_DAY, "30s",                                                       \
                "without a byte in either direction while a request runs"),                                  \
        {.word = "total",                                                                                    \
         .kind = CONFIG_KIND_DURATION,                                                                       \
         CONFIG_AT(struct config_timeouts, total_ms),                                                        \
         .min = 1,                                                                                           \
         .max = CONFIG_DAY,                                                                                  \
         .zero = "off",                                                                                      \
         .fallback = "off",                                                                                  \
         .help = "one request altogether"},                                                                  \
        TIMEOUT("tunnel", tunnel_ms, 1000, 30 * CONFIG_DAY, "1h",                                            \
                "an upgraded connection (WebSocket) without a byte either way"),                             \
        TIMEOUT("pool_idle", pool_idle_ms, 1, CONFIG_DAY, "30s",                                             \
                "an unused connection to an endpoint is closed after it; keep it below the endpoint's own")

static const struct config_word service_timeout_words[] = {SERVICE_TIMEOUTS};
const struct config_section config_service_timeouts_section = {
    .title = "timeouts",
    .help = "Overrides the file's own timeouts for one service. What is not named is as there.",
    CONFIG_WORDS(service_timeout_words),
    .prepared = true,
};

static const struct config_word timeout_words[] = {
    TIMEOUT("client_head", client_head_ms, 1, CONFIG_MINUTES(60), "10s",
            "for a client to send a whole request head"),
    TIMEOUT(
        "client_idle", client_idle_ms, 1, CONFIG_DAY, "75s",
        "a client's kept-alive connection without a request, and by the connection up to an eighth longer; "
        "must be longer than what a balancer before you keeps its own, which is often 60s"),
    SERVICE_TIMEOUTS,
    TIMEOUT("drain", drain_ms, 0, CONFIG_DAY, "30s",
            "for connections in flight when an endpoint or the process leaves"),
};
const struct config_section config_timeouts_section = {
    .title = "timeouts", .help = "How long things may take.", CONFIG_WORDS(timeout_words)};
