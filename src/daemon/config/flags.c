// SPDX-License-Identifier: Apache-2.0
// Runtime flags: where they come from, and who may ask for them.
#include "base/check.h"
#include "daemon/config/config_private.h"

static void flag_source_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_flag_source *source = target;
    static const char *const words[] = {"file", "directory", "url"};
    static const enum config_flag_source_kind kinds[] = {CONFIG_FLAG_FILE, CONFIG_FLAG_DIRECTORY,
                                                         CONFIG_FLAG_URL};
    uint32_t given = 0;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!config_given(node, words[i]))
            continue;
        source->kind = kinds[i];
        given++;
    }
    if (node != NULL && node->kind == CONFIG_NODE_MAP && given != 1)
        config_error_at(reader, node, "a source is one of 'file', 'directory' and 'url'");
    static const char *const fetched[] = {"every", "token"};
    for (size_t i = 0; i < ARRAY_LEN(fetched); i++)
        if (config_given(node, fetched[i]) && source->kind != CONFIG_FLAG_URL)
            config_error_at(reader, config_node_find(node, fetched[i])->key, "'%s' belongs to a 'url'",
                            fetched[i]);
}

static const struct config_word flag_source_words[] = {
    {.word = "file",
     .kind = CONFIG_KIND_FILE,
     CONFIG_AT(struct config_flag_source, place),
     .help = "a file in flagd's format; read again when it changes"},
    {.word = "directory",
     .kind = CONFIG_KIND_FILE,
     CONFIG_AT(struct config_flag_source, place),
     .help = "every *.json in it, in name order"},
    {.word = "url",
     .kind = CONFIG_KIND_URL,
     CONFIG_AT(struct config_flag_source, place),
     .help = "fetched again every `every`, with its entity tag"},
    {.word = "every",
     .kind = CONFIG_KIND_DURATION,
     CONFIG_AT(struct config_flag_source, every_ms),
     .min = 100,
     .max = CONFIG_DAY,
     .fallback = "30s",
     .help = "only with `url`: between two fetches"},
    {.word = "token",
     .kind = CONFIG_KIND_FILE,
     CONFIG_AT(struct config_flag_source, token_file),
     .help = "only with `url`: a file whose first line is sent as bearer token"},
};
static const struct config_section flag_source_section = {
    .title = "flag source",
    .help = "Where flags come from. `sources: [flags.json]` is short for `sources: [{file: flags.json}]`.",
    CONFIG_WORDS(flag_source_words),
    .shorthand = "file",
    .finish = flag_source_finish,
};

static void flags_finish(struct config_reader *reader, const struct config_node *node, void *target)
{
    struct config_flags *flags = target;
    flags->given = true;
    flags->position = config_position_of(reader, node);
    bool open = flags->listen.literal && !config_is_loopback(&flags->listen.addr);
    if (open && flags->tokens[0] == '\0')
        config_error_at(reader, config_place(node, "listen"),
                        "'%s' can be reached from other machines: name a file of 'tokens' (`sluice flag "
                        "token` makes lines for it), or use a loopback address such as 127.0.0.1:8016",
                        flags->listen.text);
    if (config_given(node, "burst") && flags->rate == 0)
        config_error_at(reader, config_node_find(node, "burst")->key, "'burst' means nothing without 'rate'");
}

static const struct config_word flags_words[] = {
    {.word = "listen",
     .kind = CONFIG_KIND_LISTEN,
     CONFIG_AT(struct config_flags, listen),
     .restart = CONFIG_RESTART_CHANGED,
     .help = "where SDKs ask: OFREP and flagd's evaluation service; without it flags are used here only"},
    {.word = "sources",
     .kind = CONFIG_KIND_LIST,
     CONFIG_ITEMS(struct config_flags, sources, source_count),
     .max = CONFIG_FLAG_SOURCES_MAX,
     .section = &flag_source_section,
     .fallback = "none",
     .help =
         "where flags come from; of two flags with one key the later source's counts, and what is changed "
         "at runtime counts over all"},
    {.word = "define",
     .kind = CONFIG_KIND_TREE,
     CONFIG_AT(struct config_flags, define),
     .help = "flags in flagd's format, here; the first of the sources"},
    {.word = "threads",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_flags, threads),
     .min = 1,
     .max = 16,
     .fallback = "1",
     .restart = CONFIG_RESTART_CHANGED,
     .help = "threads that answer SDKs"},
    {.word = "tokens",
     .kind = CONFIG_KIND_FILE,
     CONFIG_AT(struct config_flags, tokens),
     .restart = CONFIG_RESTART_REMOVED,
     .help = "file of tokens (`sluice flag token` makes lines for it); needed when `listen` is no loopback "
             "address"},
    {.word = "rate",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_flags, rate),
     .min = 1,
     .max = 10000000,
     .zero = "unlimited",
     .fallback = "unlimited",
     .restart = CONFIG_RESTART_CHANGED,
     .help = "requests per second of one token or client address; beyond it 429"},
    {.word = "burst",
     .kind = CONFIG_KIND_COUNT,
     CONFIG_AT(struct config_flags, burst),
     .min = 1,
     .max = 10000000,
     .restart = CONFIG_RESTART_WITH_LAST,
     .help = "requests at once before `rate` counts; as many as `rate` by default"},
    {.word = "cors",
     .kind = CONFIG_KIND_TEXT,
     CONFIG_AT(struct config_flags, cors),
     .restart = CONFIG_RESTART_CHANGED,
     .help = "origin whose pages may ask, such as https://shop.example, or \"*\""},
    {.word = "share",
     .kind = CONFIG_KIND_FILE,
     CONFIG_AT(struct config_flags, share),
     .restart = CONFIG_RESTART_CHANGED,
     .help = "directory in which the set is shared with processes that use libsluice-flags"},
    {.word = "exposures",
     .kind = CONFIG_KIND_FILE,
     CONFIG_AT(struct config_flags, exposures),
     .restart = CONFIG_RESTART_ON_OFF,
     .help = "file to which each first sight of a variant by a key is appended, one JSON object a line"},
};
const struct config_section config_flags_section = {
    .title = "flags",
    .help = "Runtime feature flags: where they come from, and who may ask for them.",
    CONFIG_WORDS(flags_words),
    .finish = flags_finish,
};
