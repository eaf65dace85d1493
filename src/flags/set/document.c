// SPDX-License-Identifier: Apache-2.0
// The text of one flagd file, with an index of its flags. It is validated once as JSON; whether it is a flag
// set is decided by the builder. Definitions are looked up by the index, for views and checks too.
#include "base/siphash.h"
#include "flags/set/flagset_private.h"

static uint32_t hash_of(struct slice key)
{
    static const struct siphash_key KEY = {0x666c616773657421ULL, 0x646f63756d656e74ULL};
    return (uint32_t)siphash(KEY, key.data, key.len);
}

// ---- moving over text that is known to be valid JSON ----

static const char *skip_space(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')
        at++;
    return at;
}

// From the opening quote to the byte after the closing quote.
static const char *skip_string(const char *at)
{
    for (at++; *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at + 1;
}

static const char *skip_value(const char *at)
{
    uint32_t depth = 0;
    if (*at != '{' && *at != '[' && *at != '"') {
        while (*at != ',' && *at != '}' && *at != ']' && *at != '\0' && skip_space(at) == at)
            at++;
        return at;
    }
    do {
        if (*at == '"') {
            at = skip_string(at);
            continue;
        }
        if (*at == '{' || *at == '[')
            depth++;
        else if (*at == '}' || *at == ']')
            depth--;
        at++;
    } while (depth > 0);
    return at;
}

struct member {
    struct slice key;
    struct slice value;
};

// The next member of an object or item of a list; begins at the opening bracket. False at the end.
static bool next_member(const char **at, bool object, struct member *member)
{
    const char *p = skip_space(*at + 1);
    if (*p == '}' || *p == ']')
        return false;
    *member = (struct member){{"", 0}, {"", 0}};
    if (object) {
        const char *end = skip_string(p);
        member->key = (struct slice){p + 1, (size_t)(end - p) - 2};
        p = skip_space(skip_space(end) + 1);
    }
    const char *end = skip_value(p);
    member->value = (struct slice){p, (size_t)(end - p)};
    *at = skip_space(end);
    if (**at == '}' || **at == ']')
        *at -= 1; // so that the next call stands before the bracket
    return true;
}

static struct slice member_named(struct slice object, struct slice name)
{
    const char *at = object.data;
    struct member member;
    if (object.len == 0 || *at != '{')
        return (struct slice){"", 0};
    while (next_member(&at, true, &member))
        if (slice_equal(member.key, name))
            return member.value;
    return (struct slice){"", 0};
}

// ---- index ----

static struct slice raw_key(const struct flagset_document *document, const struct flagset_entry *entry)
{
    return (struct slice){document->json + entry->key_at, entry->key_len};
}

struct slice flagset_document_key(const struct flagset_document *document, const struct flagset_entry *entry,
                                  char **buffer)
{
    struct slice raw = raw_key(document, entry);
    size_t len = 0;
    *buffer = NULL;
    if (memchr(raw.data, '\\', raw.len) == NULL)
        return raw;
    *buffer = heap_alloc(raw.len + 1, 1);
    if (*buffer == NULL || flags_json_unescape(raw, *buffer, raw.len, &len) != STATUS_OK)
        return (struct slice){"", 0};
    return (struct slice){*buffer, len};
}

static bool key_is(const struct flagset_document *document, const struct flagset_entry *entry,
                   struct slice key)
{
    struct slice raw = raw_key(document, entry);
    if (memchr(raw.data, '\\', raw.len) == NULL)
        return slice_equal(raw, key);
    char *buffer;
    bool same = slice_equal(flagset_document_key(document, entry, &buffer), key);
    heap_free(buffer);
    return same;
}

const struct flagset_entry *flagset_document_find(const struct flagset_document *document, struct slice key)
{
    if (document->entry_count == 0)
        return NULL;
    for (uint32_t i = hash_of(key) & document->slot_mask; document->slots[i] != 0;
         i = (i + 1) & document->slot_mask) {
        const struct flagset_entry *entry = &document->entries[document->slots[i] - 1];
        if (key_is(document, entry, key))
            return entry;
    }
    return NULL;
}

struct slice flagset_document_value(const struct flagset_document *document,
                                    const struct flagset_entry *entry)
{
    return (struct slice){document->json + entry->value_at, entry->value_len};
}

static enum status add_entry(struct flagset_document *document, uint32_t *cap, const struct member *member)
{
    struct slice key = member->key;
    if (document->list) {
        key = member_named(member->value, SLICE("key"));
        if (key.len < 2 || key.data[0] != '"')
            return STATUS_OK; // the builder will say so
        key = (struct slice){key.data + 1, key.len - 2};
    }
    if (document->entry_count == *cap) {
        uint32_t grown = *cap == 0 ? 64 : *cap * 2;
        void *entries = heap_resize(document->entries, grown * sizeof *document->entries);
        if (entries == NULL)
            return STATUS_NO_MEMORY;
        document->entries = entries;
        *cap = grown;
    }
    document->entries[document->entry_count++] = (struct flagset_entry){
        .key_at = (uint32_t)(key.data - document->json),
        .key_len = (uint32_t)key.len,
        .value_at = (uint32_t)(member->value.data - document->json),
        .value_len = (uint32_t)member->value.len,
    };
    return STATUS_OK;
}

static enum status build_slots(struct flagset_document *document)
{
    uint32_t count = 2;
    while (count < 2 * (uint64_t)document->entry_count)
        count *= 2;
    document->slots = heap_alloc(count, sizeof *document->slots);
    if (document->slots == NULL)
        return STATUS_NO_MEMORY;
    document->slot_mask = count - 1;
    for (uint32_t e = 0; e < document->entry_count; e++) {
        char *buffer;
        uint32_t i = hash_of(flagset_document_key(document, &document->entries[e], &buffer)) & (count - 1);
        heap_free(buffer);
        while (document->slots[i] != 0)
            i = (i + 1) & (count - 1);
        document->slots[i] = e + 1;
    }
    return STATUS_OK;
}

static enum status index_flags(struct flagset_document *document, struct slice flags)
{
    const char *at = flags.data;
    struct member member;
    uint32_t cap = 0;
    if (flags.len == 0 || (flags.data[0] != '{' && flags.data[0] != '['))
        return STATUS_OK;
    document->list = flags.data[0] == '[';
    enum status status = STATUS_OK;
    while (status == STATUS_OK && next_member(&at, !document->list, &member))
        status = add_entry(document, &cap, &member);
    return status == STATUS_OK ? build_slots(document) : status;
}

static enum status take_set_id(struct flagset_document *document)
{
    struct slice id = member_named(document->metadata, SLICE("flagSetId"));
    size_t len;
    if (id.len < 2 || id.data[0] != '"')
        return STATUS_OK;
    document->set_id = heap_alloc(id.len, 1);
    if (document->set_id == NULL)
        return STATUS_NO_MEMORY;
    if (flags_json_unescape((struct slice){id.data + 1, id.len - 2}, document->set_id, id.len - 1, &len) ==
        STATUS_OK)
        document->set_id[len] = '\0';
    return STATUS_OK;
}

// ---- making ----

static void say_fault(const struct flagset_document *document, const struct flags_json_error *fault,
                      char *problem)
{
    uint32_t line;
    uint32_t column;
    flags_json_position((struct slice){document->json, document->len}, fault->at, &line, &column);
    struct text text = text_over(problem, FLAGSET_PROBLEM_BYTES);
    text_addf(&text, "%s:%u:%u: %s", document->name, line, column, fault->what);
}

// Validates all of it and finds the members that matter.
static enum status split(struct flagset_document *document, struct slice *flags, char *problem)
{
    struct flags_json_walk walk;
    struct flags_json_error fault;
    struct slice key;
    struct slice value;
    enum status status = flags_json_walk_begin((struct slice){document->json, document->len}, &walk, &fault);
    while (status == STATUS_OK) {
        status = flags_json_walk_next(&walk, &key, &value, &fault);
        if (status != STATUS_OK)
            break;
        if (slice_equal(key, SLICE("flags")))
            *flags = value;
        else if (slice_equal(key, SLICE("metadata")))
            document->metadata = value;
        else if (slice_equal(key, SLICE("$evaluators")))
            document->evaluators = value;
        else if (slice_equal(key, SLICE("x-sluice")))
            document->settings = value;
    }
    if (status == STATUS_NOT_FOUND) {
        const char *rest = skip_space(document->json + walk.at);
        if (rest == document->json + document->len)
            return STATUS_OK;
        fault = (struct flags_json_error){(size_t)(rest - document->json), "something follows the document"};
        status = STATUS_INVALID;
    }
    say_fault(document, &fault, problem);
    return status;
}

enum status flagset_document_create(const char *name, const char *source, char *json, size_t len,
                                    struct flagset_document **out, char *problem)
{
    struct slice flags = {"", 0};
    struct flagset_document *document = heap_alloc(1, sizeof *document);
    // A NUL after the text stops the loop that skips blanks.
    char *terminated = document == NULL ? NULL : heap_resize(json, len + 1);
    if (terminated == NULL) {
        heap_free(json);
        heap_free(document);
        return STATUS_NO_MEMORY;
    }
    terminated[len] = '\0';
    document->references = 1;
    document->json = terminated;
    document->len = len;
    document->name = heap_strdup(name);
    document->source = heap_strdup(source);
    enum status status = document->name == NULL || document->source == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK)
        status = split(document, &flags, problem);
    if (status == STATUS_OK)
        status = index_flags(document, flags);
    if (status == STATUS_OK)
        status = take_set_id(document);
    if (status != STATUS_OK) {
        flagset_document_unref(document);
        return status;
    }
    *out = document;
    return STATUS_OK;
}

struct flagset_document *flagset_document_ref(struct flagset_document *document)
{
    if (document != NULL)
        atomic_fetch_add_explicit(&document->references, 1, memory_order_relaxed);
    return document;
}

void flagset_document_unref(struct flagset_document *document)
{
    if (document == NULL || atomic_fetch_sub_explicit(&document->references, 1, memory_order_acq_rel) != 1)
        return;
    heap_free(document->name);
    heap_free(document->source);
    heap_free(document->json);
    heap_free(document->set_id);
    heap_free(document->entries);
    heap_free(document->slots);
    heap_free(document);
}
