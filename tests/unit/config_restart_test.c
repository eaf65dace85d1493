// SPDX-License-Identifier: Apache-2.0
// config: each word that the tables mark is told when it changes, and no other.
#include "base/check.h"
#include "daemon/config/config_private.h"
#include "test.h"

static struct config_errors errors;
static char told[512];

static void tell(void *context, const char *word)
{
    (void)context;
    size_t len = strlen(told);
    assert_true((size_t)snprintf(told + len, sizeof told - len, "%s%s", len > 0 ? "," : "", word) <
                sizeof told - len);
}

static const char *compare(const struct config *was, const struct config *now)
{
    told[0] = '\0';
    config_restarts(was, now, tell, NULL);
    return told;
}

// ---- what people change ----

struct change {
    const char *was, *now, *told;
};

static struct config *load(const char *words)
{
    char yaml[512];
    struct text text = text_over(yaml, sizeof yaml);
    struct config *config = NULL;
    text_addf(&text, "services: {a: {versions: {v: ['127.0.0.1:9']}}}\n%s%s\n",
              strncmp(words, "listen", 6) == 0 ? "" : "listen: ['127.0.0.1:1']\n", words);
    assert_int_equal(config_load_text("test.yaml", text_slice(&text), &config, &errors), STATUS_OK);
    return config;
}

TEST(each_change_that_waits_is_told)
{
    static const struct change changes[] = {
        {"", "listen: ['127.0.0.1:2']", "listen"},
        {"", "listen: ['127.0.0.1:1', '127.0.0.1:2']", "listen"},
        {"", "admin: 127.0.0.1:2", "admin"},
        {"", "workers: 2", "workers"},
        {"", "io: epoll", "io"},
        {"", "journal: other.db", "journal"},
        {"", "limits: {connections: 5, request_body: 1B}", "limits.connections"},
        {"", "flags: {}", "flags,flags.threads"},
        {"flags: {}", "", "flags,flags.threads"},
        {"flags: {}", "flags: {listen: '127.0.0.1:3'}", "flags.listen"},
        {"flags: {}", "flags: {threads: 2}", "flags.threads"},
        {"flags: {}", "flags: {rate: 5}", "flags.rate"},
        {"flags: {rate: 5}", "flags: {rate: 5, burst: 6}", "flags.rate"},
        {"flags: {}", "flags: {rate: 5, burst: 6}", "flags.rate"},
        {"flags: {}", "flags: {share: a}", "flags.share"},
        {"flags: {}", "flags: {cors: a}", "flags.cors"},
        {"flags: {}", "flags: {tokens: a}", ""},
        {"flags: {tokens: a}", "flags: {tokens: b}", ""},
        {"flags: {tokens: a}", "flags: {}", "flags.tokens"},
        {"flags: {}", "flags: {exposures: a}", "flags.exposures"},
        {"flags: {exposures: a}", "flags: {exposures: b}", ""},
        {"flags: {exposures: a}", "flags: {}", "flags.exposures"},
        {"workers: 2\nio: epoll", "flags: {sources: [a.json]}\nlog: {level: debug}",
         "workers,io,flags,flags.threads"},
    };
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        struct config *was = load(changes[i].was);
        struct config *now = load(changes[i].now);
        assert_string_equal(compare(was, now), changes[i].told);
        config_destroy(was);
        config_destroy(now);
    }
}

// ---- every word of the tables ----

struct pair {
    const struct config *was, *now;
};

static void walk(const struct pair *pair, const struct config_section *section, const char *above,
                 const char *waits, char *was, char *now);

static bool must_tell(enum config_restart restart, bool before, bool after)
{
    if (restart == CONFIG_RESTART_ON_OFF)
        return before != after;
    return restart == CONFIG_RESTART_REMOVED ? before && !after : restart != CONFIG_RESTART_NO;
}

// Off to on, on to off, and from one value to another; a first byte is as good as a whole value.
static void change_value(const struct pair *pair, enum config_restart restart, size_t size, const char *name,
                         char *was, char *now)
{
    static const char steps[][2] = {{0, 'a'}, {'a', 0}, {'a', 'b'}};
    char kept[2][CONFIG_BODY_BYTES];
    assert_true(size > 0 && size <= sizeof kept[0]);
    memcpy(kept[0], was, size);
    memcpy(kept[1], now, size);
    memset(was, 0, size);
    memset(now, 0, size);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        *was = steps[i][0];
        *now = steps[i][1];
        bool tells = must_tell(restart, *was != 0, *now != 0);
        assert_string_equal(compare(pair->was, pair->now), tells ? name : "");
    }
    memcpy(was, kept[0], size);
    memcpy(now, kept[1], size);
}

// `waits`: the marked word that holds this one, or NULL.
static void change_word(const struct pair *pair, const struct config_word *word, const char *name,
                        const char *waits, char *was, char *now)
{
    char below[160];
    uint32_t count = 1;
    snprintf(below, sizeof below, "%s.", name);
    if (waits == NULL && word->restart == CONFIG_RESTART_CHANGED)
        waits = name;
    if (word->kind == CONFIG_KIND_LIST || word->kind == CONFIG_KIND_MAP) {
        was = (char *)(uintptr_t)config_elements(word, was, &count);
        now = (char *)(uintptr_t)config_elements(word, now, &count);
        assert_true(count > 0);
    } else {
        was += word->offset;
        now += word->offset;
    }
    if (word->section != NULL)
        walk(pair, word->section, below, waits, was, now);
    else if (word->live)
        change_value(pair, CONFIG_RESTART_NO, word->size, "", was, now);
    else if (waits != NULL)
        change_value(pair, CONFIG_RESTART_CHANGED, word->size, waits, was, now);
    else
        change_value(pair, word->restart, word->size, name, was, now);
}

static void walk(const struct pair *pair, const struct config_section *section, const char *above,
                 const char *waits, char *was, char *now)
{
    char name[128] = "";
    for (size_t i = 0; i < section->word_count; i++) {
        const struct config_word *word = &section->words[i];
        // What goes with the last word is told by that one's name.
        if (word->restart != CONFIG_RESTART_WITH_LAST)
            snprintf(name, sizeof name, "%s%s", above, word->word);
        if (word->kind != CONFIG_KIND_LATER && word->kind != CONFIG_KIND_TREE)
            change_word(pair, word, name, waits, was, now);
    }
}

TEST(each_word_is_told_as_the_tables_say)
{
    struct config *configs[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(config_load("examples/full.yaml", &configs[i], &errors), STATUS_OK);
    struct pair pair = {configs[0], configs[1]};
    assert_string_equal(compare(pair.was, pair.now), "");
    walk(&pair, &config_root_section, "", NULL, (char *)configs[0], (char *)configs[1]);
    assert_string_equal(compare(pair.was, pair.now), "");
    config_destroy(configs[0]);
    config_destroy(configs[1]);
}
