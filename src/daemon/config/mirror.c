// SPDX-License-Identifier: Apache-2.0
// What is sent a second time, and to which version.
#include "base/check.h"
#include "daemon/config/config_private.h"

static void mirror_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_mirror *mirror = target;
    size_t len = strlen(mirror->path);
    mirror->given = node != NULL && !config_node_is_null(node);
    if (len > 0 && (mirror->path[len - 1] == '/' || strchr(mirror->path, '?') != NULL))
        config_error_at(reader, config_node_get(node, "path"),
                        "what is put before paths does not end with '/', and has no query");
}

const struct config_choice config_false_or_true[] = {{"false", false}, {"true", true}, {NULL, 0}};
static const struct config_word mirror_words[] = {
    {.word = "to",
     .kind = CONFIG_KIND_NAME,
     CONFIG_AT(struct config_mirror, to),
     .required = true,
     .help = "the version that gets the requests once more. It may be one that no client ever reaches"},
    {.word = "share",
     .kind = CONFIG_KIND_WEIGHT,
     CONFIG_AT(struct config_mirror, share),
     .max = ROLLOUT_WEIGHT_FULL,
     .fallback = "100%",
     .help = "of the units, or of the requests of a service without one"},
    {.word = "secondary",
     .kind = CONFIG_KIND_WEIGHT,
     CONFIG_AT(struct config_mirror, secondary),
     .max = ROLLOUT_WEIGHT_FULL,
     .fallback = "10%",
     .help = "of those, sent to the stable version once more as well: how it differs from itself is noise"},
    {.word = "unsafe",
     .kind = CONFIG_KIND_CHOICE,
     CONFIG_AT(struct config_mirror, unsafe),
     .choices = config_false_or_true,
     .fallback = "false",
     .help =
         "`true`: also methods beside GET, HEAD and OPTIONS. What such requests do is then done twice, by the "
         "secondary three times, unless the version knows them by `X-Sluice-Shadow`"},
    {.word = "timeout",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct config_mirror, timeout_ms),
     .min = 10,
     .max = CONFIG_MINUTES(5),
     .fallback = "10s",
     .help = "from the connect to the answer's last byte"},
    {.word = "concurrent",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_mirror, concurrent),
     .min = 1,
     .max = 512,
     .fallback = "64",
     .help = "requests that are being answered at the same time; as many wait, and more are dropped"},
    {.word = "max_body",
     .kind = CONFIG_KIND_SIZE,
     CONFIG_AT(struct config_mirror, body_bytes),
     .max = 1048576,
     .fallback = "256KiB",
     .help = "requests with longer bodies are dropped, and of answers so much is compared"},
    {.word = "host",
     .kind = CONFIG_KIND_HOST,
     CONFIG_AT(struct config_mirror, host),
     .help = "the Host field of the copy; without it the request's own"},
    {.word = "path",
     .kind = CONFIG_KIND_PATH,
     CONFIG_AT(struct config_mirror, path),
     .help = "is put before the path of the copy"},
    {.word = "headers",
     .kind = CONFIG_KIND_SECTION,
     CONFIG_AT(struct config_mirror, headers),
     .section = &config_edits_section,
     .optional = true,
     .help = "headers of the copy; their values are as written"},
};
const struct config_section config_mirror_section = {
    .title = "mirror",
    .help =
        "Requests that the stable version answers are sent to another one as well, which no client waits for "
        "and whose answers no client gets. `mirror: v2` is short for `mirror: {to: v2}`.",
    CONFIG_WORDS(mirror_words),
    .shorthand = "to",
    .finish = mirror_finish,
};
