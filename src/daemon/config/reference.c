// SPDX-License-Identifier: Apache-2.0
// Prints the table: as a JSON Schema for editors and as a reference for people. Neither knows a word of its
// own.
#include "base/check.h"
#include "daemon/config/config_private.h"

enum { SECTIONS_MAX = 64 };

struct sections {
    const struct config_section *items[SECTIONS_MAX];
    size_t count;
};

static void sections_gather(const struct config_section *section, struct sections *sections)
{
    for (size_t i = 0; i < sections->count; i++)
        if (sections->items[i] == section)
            return;
    CHECK(sections->count < SECTIONS_MAX);
    sections->items[sections->count++] = section;
    for (size_t i = 0; i < section->word_count; i++)
        if (section->words[i].section != NULL)
            sections_gather(section->words[i].section, sections);
}

// The top-level and the service's own `timeouts` share a title.
static void section_key(const struct config_section *section, const struct sections *sections,
                        struct text *text)
{
    text_add(text, slice_of(section->title));
    for (size_t i = 0; sections->items[i] != section; i++)
        if (strcmp(sections->items[i]->title, section->title) == 0)
            text_add(text, SLICE(" of a service"));
}

static const char *restart_text(const struct config_word *word)
{
    static const char *const texts[] = {
        [CONFIG_RESTART_NO] = "",
        [CONFIG_RESTART_CHANGED] = "; a change needs a restart",
        [CONFIG_RESTART_WITH_LAST] = "; a change needs a restart",
        [CONFIG_RESTART_ON_OFF] = "; to add it or take it away needs a restart",
        [CONFIG_RESTART_REMOVED] = "; to take it away needs a restart",
    };
    return texts[word->restart];
}

// ---- schema ----

static const char duration_pattern[] = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";
static const char size_pattern[] = "^[0-9]+(B|KiB|MiB|GiB|TiB)$";
static const char share_pattern[] = "^[0-9]+(\\.[0-9]+)?%$";
static const char name_pattern[] = "^[a-zA-Z0-9._-]{1,63}$";

static void schema_pattern(const char *pattern, struct text *text)
{
    text_add(text, SLICE("\"type\": \"string\", \"pattern\": "));
    text_add_json(text, slice_of(pattern));
}

static void schema_choices(const struct config_choice *choices, struct text *text)
{
    text_add(text, SLICE("\"enum\": ["));
    for (const struct config_choice *choice = choices; choice->word != NULL; choice++) {
        text_add(text, choice == choices ? SLICE("") : SLICE(", "));
        text_add_json(text, slice_of(choice->word));
        // An editor that reads YAML 1.1 takes on and off for truth values.
        if (strcmp(choice->word, "off") == 0)
            text_add(text, SLICE(", false"));
        if (strcmp(choice->word, "on") == 0)
            text_add(text, SLICE(", true"));
    }
    text_add_char(text, ']');
}

static void schema_scalar_type(const struct config_word *word, struct text *text)
{
    switch (word->kind) {
    case CONFIG_KIND_NAME:
        schema_pattern(name_pattern, text);
        return;
    case CONFIG_KIND_COUNT:
        text_addf(text, "\"type\": \"integer\", \"minimum\": %llu, \"maximum\": %llu",
                  (unsigned long long)word->min, (unsigned long long)word->max);
        return;
    case CONFIG_KIND_DURATION:
        schema_pattern(duration_pattern, text);
        return;
    case CONFIG_KIND_SIZE:
        schema_pattern(size_pattern, text);
        return;
    case CONFIG_KIND_WEIGHT:
    case CONFIG_KIND_SHARE:
        schema_pattern(share_pattern, text);
        return;
    case CONFIG_KIND_STATUSES:
        text_add(text, SLICE("\"type\": [\"string\", \"integer\"], \"minimum\": 200, \"maximum\": 599, "
                             "\"pattern\": \"^[2-5](xx|[0-9]{2}(-[2-5][0-9]{2})?)$\""));
        return;
    case CONFIG_KIND_NUMBER:
        text_addf(text, "\"type\": \"number\", \"minimum\": %g, \"maximum\": %g", word->low, word->high);
        return;
    case CONFIG_KIND_CHOICE:
        schema_choices(word->choices, text);
        return;
    case CONFIG_KIND_PATH:
        schema_pattern("^/[^?# ]*$", text);
        return;
    case CONFIG_KIND_URL:
        schema_pattern("^https?://", text);
        return;
    default:
        text_add(text, SLICE("\"type\": \"string\", \"minLength\": 1"));
        return;
    }
}

static void schema_scalar(const struct config_word *word, struct text *text)
{
    if (word->zero == NULL) {
        schema_scalar_type(word, text);
        return;
    }
    const struct config_choice zero[] = {{word->zero, 0}, {NULL, 0}};
    text_add(text, SLICE("\"anyOf\": [{"));
    schema_choices(zero, text);
    text_add(text, SLICE("}, {"));
    schema_scalar_type(word, text);
    text_add(text, SLICE("}]"));
}

static void schema_reference(const struct config_section *section, const struct sections *sections,
                             struct text *text)
{
    text_add(text, SLICE("\"$ref\": \"#/$defs/"));
    char key[64];
    struct text name = text_over(key, sizeof key);
    section_key(section, sections, &name);
    for (const char *at = key; *at != '\0'; at++)
        text_add_char(text, *at == ' ' ? '-' : *at);
    text_add_char(text, '"');
}

static void schema_list(const struct config_word *word, const struct sections *sections, struct text *text)
{
    bool map = word->kind == CONFIG_KIND_MAP;
    const char *entries = map ? "Properties" : "Items";
    text_addf(text, "\"type\": %s, \"min%s\": %llu, \"max%s\": %llu, ",
              word->min > 0 ? (map ? "\"object\"" : "\"array\"")
                            : (map ? "[\"object\", \"null\"]" : "[\"array\", \"null\"]"),
              entries, (unsigned long long)word->min, entries, (unsigned long long)word->max);
    if (map) {
        text_add(text, SLICE("\"propertyNames\": {"));
        schema_pattern(name_pattern, text);
        text_add(text, SLICE("}, \"additionalProperties\": {"));
    } else {
        text_add(text, SLICE("\"items\": {"));
    }
    if (word->section != NULL)
        schema_reference(word->section, sections, text);
    else
        schema_scalar(word->item, text);
    text_add_char(text, '}');
}

static void schema_value(const struct config_word *word, const struct sections *sections, struct text *text)
{
    if (word->kind == CONFIG_KIND_TREE)
        text_add(text, SLICE("\"type\": [\"object\", \"null\"]"));
    else if (word->kind == CONFIG_KIND_LIST || word->kind == CONFIG_KIND_MAP)
        schema_list(word, sections, text);
    else if (word->kind == CONFIG_KIND_SECTION)
        schema_reference(word->section, sections, text);
    else
        schema_scalar(word, text);
}

static void schema_word(const struct config_word *word, const struct sections *sections, struct text *text)
{
    text_add(text, SLICE("          "));
    text_add_json(text, slice_of(word->word));
    text_add(text, SLICE(": {\"description\": "));
    char help[CONFIG_MESSAGE_BYTES];
    struct text description = text_over(help, sizeof help);
    text_addf(&description, "%s%s", word->help, restart_text(word));
    CHECK(!description.cut);
    text_add_json(text, text_slice(&description));
    bool number = word->kind == CONFIG_KIND_COUNT || word->kind == CONFIG_KIND_NUMBER;
    if (word->fallback != NULL && word->kind < CONFIG_KIND_SECTION) {
        text_add(text, SLICE(", \"default\": "));
        if (number && word->fallback[0] <= '9')
            text_add(text, slice_of(word->fallback));
        else
            text_add_json(text, slice_of(word->fallback));
    }
    text_add(text, SLICE(", "));
    schema_value(word, sections, text);
    text_add_char(text, '}');
}

static void schema_required(const struct config_section *section, struct text *text)
{
    bool first = true;
    for (size_t i = 0; i < section->word_count; i++) {
        if (!section->words[i].required || section->words[i].unless != NULL)
            continue;
        text_add(text, first ? SLICE(", \"required\": [") : SLICE(", "));
        text_add_json(text, slice_of(section->words[i].word));
        first = false;
    }
    if (!first)
        text_add_char(text, ']');
}

static bool all_optional(const struct config_section *section)
{
    for (size_t i = 0; i < section->word_count; i++)
        if (section->words[i].required)
            return false;
    return true;
}

static void schema_section(const struct config_section *section, const struct sections *sections,
                           struct text *text)
{
    text_add(text, SLICE("\"description\": "));
    text_add_json(text, slice_of(section->help));
    text_add(text,
             SLICE(",\n      \"anyOf\": [\n        {\"type\": \"object\", \"additionalProperties\": false"));
    schema_required(section, text);
    text_add(text, SLICE(", \"properties\": {"));
    bool first = true;
    for (size_t i = 0; i < section->word_count; i++) {
        if (section->words[i].kind == CONFIG_KIND_LATER)
            continue;
        text_add(text, first ? SLICE("\n") : SLICE(",\n"));
        schema_word(&section->words[i], sections, text);
        first = false;
    }
    text_add(text, SLICE("\n        }}"));
    if (section->choices != NULL) {
        text_add(text, SLICE(",\n        {"));
        schema_choices(section->choices, text);
        text_add_char(text, '}');
    }
    if (section->shorthand != NULL) {
        text_add(text, SLICE(",\n        {"));
        schema_value(config_section_word(section, slice_of(section->shorthand)), sections, text);
        text_add_char(text, '}');
    }
    if (all_optional(section) && section != &config_root_section)
        text_add(text, SLICE(",\n        {\"type\": \"null\"}"));
    text_add(text, SLICE("\n      ]"));
}

void config_schema_write(struct text *text)
{
    struct sections sections = {.count = 0};
    sections_gather(&config_root_section, &sections);
    text_add(text, SLICE("{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
                         "  \"title\": \"Sluice configuration\",\n"
                         "  \"$ref\": \"#/$defs/file\",\n  \"$defs\": {\n"));
    for (size_t i = 0; i < sections.count; i++) {
        char key[64];
        struct text name = text_over(key, sizeof key);
        section_key(sections.items[i], &sections, &name);
        text_add(text, SLICE("    \""));
        for (const char *at = key; *at != '\0'; at++)
            text_add_char(text, *at == ' ' ? '-' : *at);
        text_add(text, SLICE("\": {\n      "));
        schema_section(sections.items[i], &sections, text);
        text_add(text, i + 1 < sections.count ? SLICE("\n    },\n") : SLICE("\n    }\n"));
    }
    text_add(text, SLICE("  }\n}\n"));
}

// ---- reference ----

static void words_range(const struct config_word *word, struct text *text)
{
    if (word->kind == CONFIG_KIND_NUMBER) {
        text_addf(text, " %g to %g", word->low, word->high);
    } else if (word->kind == CONFIG_KIND_SHARE) {
        text_addf(text, " %g%% to %g%%", word->low * 100, word->high * 100);
    } else if (word->kind == CONFIG_KIND_WEIGHT) {
        text_add_char(text, ' ');
        config_weight_write((uint32_t)word->min, text);
        text_add(text, SLICE(" to "));
        config_weight_write((uint32_t)word->max, text);
    } else if (word->kind == CONFIG_KIND_DURATION) {
        text_add_char(text, ' ');
        config_duration_write(word->min, text);
        text_add(text, SLICE(" to "));
        config_duration_write(word->max, text);
    } else if (word->kind == CONFIG_KIND_COUNT) {
        text_addf(text, " %llu to %llu", (unsigned long long)word->min, (unsigned long long)word->max);
    }
}

static void words_choices(const struct config_choice *choices, struct text *text)
{
    for (const struct config_choice *choice = choices; choice->word != NULL; choice++)
        text_addf(text, "%s`%s`", choice == choices ? "" : ", ", choice->word);
}

static void words_value(const struct config_word *word, struct text *text)
{
    static const char *const kinds[] = {
        [CONFIG_KIND_NAME] = "name",
        [CONFIG_KIND_TOKEN] = "name",
        [CONFIG_KIND_FILE] = "path of a file",
        [CONFIG_KIND_TEXT] = "text",
        [CONFIG_KIND_BODY] = "text",
        [CONFIG_KIND_URL] = "http:// or https:// address",
        [CONFIG_KIND_TREE] = "names and what they mean",
        [CONFIG_KIND_HOST] = "host",
        [CONFIG_KIND_PATH] = "path",
        [CONFIG_KIND_COUNT] = "number",
        [CONFIG_KIND_DURATION] = "duration",
        [CONFIG_KIND_SIZE] = "size",
        [CONFIG_KIND_WEIGHT] = "share",
        [CONFIG_KIND_SHARE] = "share",
        [CONFIG_KIND_NUMBER] = "number",
        [CONFIG_KIND_STATUSES] = "statuses",
        [CONFIG_KIND_CHOICE] = "",
        [CONFIG_KIND_LISTEN] = "address",
        [CONFIG_KIND_ENDPOINT] = "address",
        [CONFIG_KIND_NETWORK] = "network",
        [CONFIG_KIND_SECTION] = "",
        [CONFIG_KIND_LIST] = "list",
        [CONFIG_KIND_MAP] = "names",
        [CONFIG_KIND_LATER] = "",
    };
    if (word->zero != NULL)
        text_addf(text, "`%s` or ", word->zero);
    if (word->choices != NULL)
        words_choices(word->choices, text);
    text_add(text, slice_of(kinds[word->kind]));
    words_range(word, text);
    if (word->kind == CONFIG_KIND_LIST && word->item != NULL)
        text_addf(text, " of up to %llu", (unsigned long long)word->max);
    if (word->kind == CONFIG_KIND_SECTION)
        text_add(text, SLICE("words"));
    if (word->section != NULL)
        text_addf(text, ", see *%s*", word->section->title);
}

static void words_row(const struct config_word *word, struct text *text)
{
    text_addf(text, "| `%s` | ", word->word);
    words_value(word, text);
    text_add(text, SLICE(" | "));
    if (word->unless != NULL)
        text_addf(text, "**needed** unless `%s`", word->unless);
    else if (word->required)
        text_add(text, SLICE("**needed**"));
    else if (word->fallback != NULL)
        text_addf(text, word->kind < CONFIG_KIND_SECTION ? "`%s`" : "%s", word->fallback);
    text_addf(text, " | %s%s |\n", word->help, restart_text(word));
}

static void words_section(const struct config_section *section, const struct sections *sections,
                          struct text *text)
{
    text_add(text, SLICE("\n## "));
    section_key(section, sections, text);
    text_addf(text, "\n\n%s", section->help);
    if (section->choices != NULL) {
        text_add(text, SLICE(" Instead of words beneath it: "));
        words_choices(section->choices, text);
        text_add_char(text, '.');
    }
    text_add(text, SLICE("\n\n| Word | Value | Default | Meaning |\n|---|---|---|---|\n"));
    for (size_t i = 0; i < section->word_count; i++)
        if (section->words[i].kind != CONFIG_KIND_LATER)
            words_row(&section->words[i], text);
}

static void words_later(const struct sections *sections, struct text *text)
{
    text_add(
        text,
        SLICE("\n## Words of later versions\n\nThey are known, and refused by name so that nobody believes "
              "they work:\n\n"));
    for (size_t i = 0; i < sections->count; i++)
        for (size_t j = 0; j < sections->items[i]->word_count; j++)
            if (sections->items[i]->words[j].kind == CONFIG_KIND_LATER)
                text_addf(text, "- `%s` in *%s*\n", sections->items[i]->words[j].word,
                          sections->items[i]->title);
}

void config_words_write(struct text *text)
{
    struct sections sections = {.count = 0};
    sections_gather(&config_root_section, &sections);
    text_add(
        text,
        SLICE(
            "# Configuration\n\n<!-- Generated from src/daemon/config; a test compares. -->\n\n"
            "One YAML file, or a directory whose `*.yaml` files are read together. "
            "`examples/minimal.yaml` is the\n"
            "least that works, `examples/full.yaml` shows every word. `docs/sluice.schema.json` "
            "lets an editor\n"
            "complete and check while you type.\n\n"
            "- A **duration** is written with its unit: `500ms`, `30s`, `10m`, `1h30m`, `7d`.\n"
            "- A **share** is written with its percent sign: `5%`, `0.1%`; not finer than "
            "`0.001%` where it is traffic.\n"
            "- A **size** is written with its unit: `512B`, `64KiB`, `64MiB`, `1GiB`.\n"
            "- A **name** has 1 to 63 letters, digits, dots, underscores or hyphens.\n"
            "- An **address** is `10.0.0.1:9001`, `[::1]:9001` or `unix:/run/app.sock`; "
            "endpoints may also be "
            "`name:9001`, or `srv:_http._tcp.name`, whose records tell the ports.\n"
            "- A **path**, also that of a unix address, is relative to the file that names it. Where only the working "
            "directory has such a file, that one is taken, with a warning.\n"
            "- Every word may stand once. Aliases (`*name`) work; tags, merge keys and second "
            "documents do not.\n"
            "- What is wrong is told with file, line and column, as much of it at once as can be; a bad file "
            "changes nothing.\n"));
    for (size_t i = 0; i < sections.count; i++)
        words_section(sections.items[i], &sections, text);
    words_later(&sections, text);
}
