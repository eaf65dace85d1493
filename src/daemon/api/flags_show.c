// SPDX-License-Identifier: Apache-2.0
// What is known about flags: the list, page by page in the order of keys; one flag, whole; who changed what;
// one flagd file that says the same. Pages are found in one walk over the set, so that no page holds up the
// engine thread for longer than that.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/heap.h"
#include "daemon/api/flags.h"
#include "daemon/config/config.h"
#include "flags/set/flagset.h"
#include "flags/set/usage.h"
#include "ship/engine/engine.h"

enum { NEAREST_FLAGS_MAX = 2000 }; // more are not searched for the nearest name

static const char *type_name(enum flags_type type)
{
    static const char *const names[] = {
        [FLAGS_ANY] = "any",        [FLAGS_BOOLEAN] = "boolean", [FLAGS_STRING] = "string",
        [FLAGS_INTEGER] = "number", [FLAGS_FLOAT] = "number",    [FLAGS_OBJECT] = "object"};
    return names[type];
}

static const char *stale_name(enum usage_stale stale)
{
    return stale == USAGE_UNUSED ? "unused" : stale == USAGE_ONE_VARIANT ? "one_variant" : NULL;
}

static const char *source_name(enum flagset_source_kind kind)
{
    static const char *const names[] = {[FLAGSET_FILE] = "file",
                                        [FLAGSET_DIRECTORY] = "directory",
                                        [FLAGSET_HTTP] = "url",
                                        [FLAGSET_INLINE] = "inline"};
    return names[kind];
}

static bool usage_of(const struct engine *engine, struct slice key, struct usage_flag *usage)
{
    const struct usage *all = runtime_usage(targets_of(engine)->runtime);
    return all != NULL && usage_get(all, key, engine_wall_ms(engine), usage);
}

// ---- what an answer about one flag begins with ----

void api_write_slice(struct json_out *out, const char *member, struct slice text)
{
    if (text.len > 0)
        json_out_string(out, member, text);
    else
        json_out_null(out, member);
}

static void write_overlay(struct json_out *out, const struct runtime_flag *overlay)
{
    static const char *const states[] = {
        [FLAGS_PATCH_AS_IS] = NULL, [FLAGS_PATCH_ENABLED] = "on", [FLAGS_PATCH_DISABLED] = "off"};
    bool any = overlay->defined || overlay->killed || overlay->state != FLAGS_PATCH_AS_IS;
    if (!any) {
        json_out_null(out, "overlay");
        return;
    }
    json_out_open(out, "overlay", '{');
    json_out_bool(out, "defined", overlay->defined);
    json_out_text(out, "switched", overlay->killed ? "off" : states[overlay->state]);
    json_out_text(out, "variant",
                  overlay->killed && overlay->kill_variant[0] != '\0' ? overlay->kill_variant : NULL);
    json_out_close(out, '}');
}

static void write_usage(struct json_out *out, const struct usage_flag *usage)
{
    if (usage == NULL) {
        json_out_null(out, "evaluations");
        return;
    }
    json_out_count(out, "evaluations", usage->evaluations);
    json_out_time(out, "last_evaluated_ms", usage->last_evaluated_ms);
    json_out_text(out, "stale", stale_name(usage->stale));
}

static void write_summary(struct json_out *out, struct engine *engine,
                          const struct flagset_snapshot *snapshot, const struct flags_info *info,
                          const struct usage_flag *usage)
{
    struct runtime_flag overlay;
    const char *document = NULL;
    struct slice json;
    runtime_flag_get(targets_of(engine)->runtime, info->key, &overlay);
    if (!flagset_snapshot_document(snapshot, info->document, &document, &json))
        document = NULL;
    json_out_string(out, "key", info->key);
    json_out_text(out, "type", type_name(info->type));
    json_out_bool(out, "enabled", info->enabled);
    json_out_bool(out, "killed", info->killed);
    api_write_slice(out, "kill_variant", info->kill_variant);
    api_write_slice(out, "default_variant", info->default_variant);
    json_out_bool(out, "targeting", info->has_targeting || info->has_targets);
    json_out_text(out, "source", document);
    api_write_slice(out, "fault", info->fault);
    write_overlay(out, &overlay);
    json_out_text(out, "rollout", overlay.rollout);
    write_usage(out, usage);
}

// ---- the set ----

static void write_sources(struct json_out *out, const struct flagset *set)
{
    static struct flagset_source_state source;
    json_out_open(out, "sources", '[');
    for (uint32_t i = 0; i < flagset_source_count(set); i++) {
        flagset_source_get(set, i, &source);
        json_out_open(out, NULL, '{');
        json_out_text(out, "name", source.name);
        json_out_text(out, "kind", source_name(source.kind));
        json_out_bool(out, "good", source.good);
        json_out_time(out, "read_ms", source.read_ms);
        json_out_count(out, "flags", source.flag_count);
        json_out_text(out, "problem", source.good || source.problem[0] == '\0' ? NULL : source.problem);
        json_out_close(out, '}');
    }
    json_out_close(out, ']');
}

static bool names(const char *text, struct slice key)
{
    return key.len == 0 || memmem(text, strlen(text), key.data, key.len) != NULL;
}

// The newest compilation's problems; with a key, those that name it.
static void write_problems(struct json_out *out, const struct flagset *set, struct slice key)
{
    const struct fault *problems = NULL;
    uint32_t count = flagset_problems(set, &problems);
    json_out_open(out, "problems", '[');
    for (uint32_t i = 0; i < count; i++) {
        if (!names(problems[i].text, key))
            continue;
        json_out_open(out, NULL, '{');
        json_out_text(out, "text", problems[i].text);
        json_out_bool(out, "error", problems[i].status != STATUS_OK);
        json_out_close(out, '}');
    }
    json_out_close(out, ']');
}

static void write_set(struct json_out *out, struct engine *engine, const struct flagset_snapshot *snapshot)
{
    const struct flagset *set = runtime_flagset(targets_of(engine)->runtime);
    const struct usage *usage = runtime_usage(targets_of(engine)->runtime);
    json_out_count(out, "version", snapshot->version);
    json_out_count(out, "change", snapshot->change);
    json_out_time(out, "changed_ms", snapshot->changed_ms);
    json_out_count(out, "count", flags_image_flag_count(&snapshot->all.set));
    json_out_bool(out, "refused", flagset_refused(set));
    json_out_count(out, "compile_us", flagset_build_us(set));
    json_out_count(out, "unknown_evaluations", usage != NULL ? usage_unknown(usage) : 0);
    write_sources(out, set);
    write_problems(out, set, (struct slice){"", 0});
}

// ---- a page ----

struct page_filter {
    char prefix[RUNTIME_KEY_BYTES];
    char contains[RUNTIME_KEY_BYTES];
    char after[RUNTIME_KEY_BYTES];
    bool has_after;
    bool stale;
    bool changed;
};

struct page_entry {
    struct flags_info info;
    struct usage_flag usage;
    bool has_usage;
};

// The smallest keys found so far, the largest of them first: a heap.
struct page {
    struct page_entry *entries;
    uint32_t count, cap;
    uint64_t matched;
    bool more;
};

static int key_order(struct slice a, struct slice b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.data, b.data, len) : 0;
    return order != 0 ? order : a.len < b.len ? -1 : a.len > b.len;
}

static bool is_changed(const struct engine *engine, struct slice key)
{
    struct runtime_flag overlay;
    runtime_flag_get(targets_of(engine)->runtime, key, &overlay);
    return overlay.defined || overlay.killed || overlay.state != FLAGS_PATCH_AS_IS || overlay.rollout != NULL;
}

static bool filter_takes(const struct page_filter *filter, const struct engine *engine,
                         struct page_entry *entry)
{
    struct slice key = entry->info.key;
    if (!slice_starts_with(key, slice_of(filter->prefix)))
        return false;
    if (filter->contains[0] != '\0' &&
        memmem(key.data, key.len, filter->contains, strlen(filter->contains)) == NULL)
        return false;
    if (filter->changed && !is_changed(engine, key))
        return false;
    if (!filter->stale)
        return true;
    entry->has_usage = usage_of(engine, key, &entry->usage);
    return entry->has_usage && entry->usage.stale != USAGE_LIVE;
}

static void swap_entries(struct page_entry *a, struct page_entry *b)
{
    struct page_entry held = *a;
    *a = *b;
    *b = held;
}

static bool larger(const struct page *page, uint32_t a, uint32_t b)
{
    return key_order(page->entries[a].info.key, page->entries[b].info.key) > 0;
}

static void sink(struct page *page, uint32_t at)
{
    for (;;) {
        uint32_t largest = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < page->count; child++)
            largest = larger(page, child, largest) ? child : largest;
        if (largest == at)
            return;
        swap_entries(&page->entries[at], &page->entries[largest]);
        at = largest;
    }
}

static void page_add(struct page *page, const struct page_entry *entry)
{
    if (page->count == page->cap) {
        page->more = true;
        if (page->cap == 0 || key_order(entry->info.key, page->entries[0].info.key) > 0)
            return;
        page->entries[0] = *entry;
        sink(page, 0);
        return;
    }
    uint32_t at = page->count++;
    page->entries[at] = *entry;
    for (; at > 0 && larger(page, at, (at - 1) / 2); at = (at - 1) / 2)
        swap_entries(&page->entries[at], &page->entries[(at - 1) / 2]);
}

static int entry_order(const void *a, const void *b)
{
    return key_order(((const struct page_entry *)a)->info.key, ((const struct page_entry *)b)->info.key);
}

static void page_fill(struct page *page, const struct page_filter *filter, const struct engine *engine,
                      const struct flags_image *set)
{
    struct page_entry entry = {0};
    uint32_t cursor = 0;
    while (flags_image_next(set, &cursor, &entry.info)) {
        entry.has_usage = false;
        if (!filter_takes(filter, engine, &entry))
            continue;
        page->matched++;
        if (!filter->has_after || key_order(entry.info.key, slice_of(filter->after)) > 0)
            page_add(page, &entry);
    }
    if (page->count > 0)
        qsort(page->entries, page->count, sizeof page->entries[0], entry_order);
}

static void write_page(struct json_out *out, struct engine *engine, const struct flagset_snapshot *snapshot,
                       struct page *page)
{
    json_out_count(out, "matched", page->matched);
    json_out_open(out, "flags", '[');
    for (uint32_t i = 0; i < page->count; i++) {
        struct page_entry *entry = &page->entries[i];
        if (!entry->has_usage)
            entry->has_usage = usage_of(engine, entry->info.key, &entry->usage);
        json_out_open(out, NULL, '{');
        write_summary(out, engine, snapshot, &entry->info, entry->has_usage ? &entry->usage : NULL);
        json_out_close(out, '}');
    }
    json_out_close(out, ']');
    api_write_slice(out, "next",
                    page->more && page->count > 0 ? page->entries[page->count - 1].info.key : SLICE(""));
}

// False: it has answered.
static bool read_limit(struct api_call *call, uint32_t *limit)
{
    char text[16];
    char *end;
    if (!api_query_value(call->query, SLICE("limit"), text, sizeof text))
        return true;
    unsigned long number = strtoul(text, &end, 10);
    bool good = end != text && *end == '\0' && text[0] != '-' && number <= API_FLAGS_PAGE_MAX;
    if (good)
        *limit = (uint32_t)number;
    else
        api_error(call, 400, "invalid", "limit is a number from 0 to 1000");
    return good;
}

static void list_page(struct api_call *call, uint32_t limit)
{
    struct engine *engine = call->engine;
    struct json_out *out = &call->out;
    const struct flagset_snapshot *snapshot = flagset_current(runtime_flagset(targets_of(engine)->runtime));
    struct page page = {.entries = heap_alloc(limit + 1, sizeof *page.entries), .cap = limit};
    struct page_filter filter = {
        .stale = api_query_given(call->query, SLICE("stale")),
        .changed = api_query_given(call->query, SLICE("changed")),
    };
    if (page.entries == NULL) {
        api_refuse(call, STATUS_NO_MEMORY, "no memory is left");
        return;
    }
    (void)api_query_value(call->query, SLICE("prefix"), filter.prefix, sizeof filter.prefix);
    (void)api_query_value(call->query, SLICE("contains"), filter.contains, sizeof filter.contains);
    filter.has_after = api_query_value(call->query, SLICE("after"), filter.after, sizeof filter.after);
    json_out_open(out, NULL, '{');
    write_set(out, engine, snapshot);
    if (limit > 0) {
        page_fill(&page, &filter, engine, &snapshot->all.set);
        write_page(out, engine, snapshot, &page);
    }
    json_out_close(out, '}');
    heap_free(page.entries);
}

static void export_all(struct api_call *call)
{
    char *json;
    size_t len;
    enum status status = flagset_snapshot_export(
        flagset_current(runtime_flagset(targets_of(call->engine)->runtime)), &json, &len);
    if (status != STATUS_OK) {
        api_refuse(call, status, "the flags could not be written as one file");
        return;
    }
    json_out_bytes(&call->out, (struct slice){json, len});
    heap_free(json);
}

// ---- one flag ----

// Among very many flags only those are compared that begin alike.
static bool may_be_meant(struct slice key, struct slice flag, bool many)
{
    size_t same = 0;
    if (flag.len >= RUNTIME_KEY_BYTES || memchr(flag.data, '\0', flag.len) != NULL)
        return false;
    while (same < key.len && same < flag.len && key.data[same] == flag.data[same])
        same++;
    return !many || same * 2 >= key.len || memmem(flag.data, flag.len, key.data, key.len) != NULL;
}

static const char *nearest_of(struct slice key, const char *const *known, uint32_t count)
{
    const char *nearest = count > 0 ? config_nearest(key, known, count) : NULL;
    // Half a name is as good a slip as a wrong letter.
    for (uint32_t i = 0; i < count && nearest == NULL && key.len > 2; i++)
        nearest = memmem(known[i], strlen(known[i]), key.data, key.len) != NULL ? known[i] : NULL;
    return nearest;
}

void api_flags_unknown(struct api_call *call, struct slice key)
{
    const struct flags_image *set =
        &flagset_current(runtime_flagset(targets_of(call->engine)->runtime))->all.set;
    bool many = flags_image_flag_count(set) > NEAREST_FLAGS_MAX;
    const char **known = heap_alloc(NEAREST_FLAGS_MAX, sizeof *known);
    char *words = heap_alloc(NEAREST_FLAGS_MAX, RUNTIME_KEY_BYTES);
    struct flags_info info;
    uint32_t cursor = 0;
    uint32_t count = 0;
    while (known != NULL && words != NULL && count < NEAREST_FLAGS_MAX &&
           flags_image_next(set, &cursor, &info)) {
        if (!may_be_meant(key, info.key, many))
            continue;
        char *word = words + (size_t)count * RUNTIME_KEY_BYTES;
        memcpy(word, info.key.data, info.key.len);
        known[count++] = word;
    }
    const char *nearest = nearest_of(key, known, count);
    char message[800];
    if (nearest != NULL)
        snprintf(message, sizeof message, "there is no flag '" SLICE_FMT "'; did you mean '%s'?",
                 SLICE_ARG(key), nearest);
    else
        snprintf(message, sizeof message, "there is no flag '" SLICE_FMT "'", SLICE_ARG(key));
    api_error(call, 404, "not_found", message);
    heap_free(known);
    heap_free(words);
}

static void write_variants(struct json_out *out, const struct flags_image *set, const struct flags_info *info,
                           const struct usage_flag *usage)
{
    json_out_open(out, "variants", '[');
    for (uint32_t i = 0; i < info->variant_count; i++) {
        struct slice name, json;
        uint64_t evaluations = 0;
        if (!flags_image_variant_get(set, info->key, i, &name, &json))
            break;
        for (uint32_t j = 0; usage != NULL && j < usage->variant_count; j++)
            if (slice_equal(slice_of(usage->variants[j].name), name))
                evaluations = usage->variants[j].evaluations;
        json_out_open(out, NULL, '{');
        json_out_string(out, "name", name);
        json_out_raw(out, "value", json);
        json_out_count(out, "evaluations", evaluations);
        json_out_close(out, '}');
    }
    json_out_close(out, ']');
}

static void write_usage_whole(struct json_out *out, const struct usage_flag *usage)
{
    if (usage == NULL) {
        json_out_null(out, "usage");
        return;
    }
    json_out_open(out, "usage", '{');
    write_usage(out, usage);
    json_out_count(out, "without_variant", usage->defaulted);
    json_out_count(out, "errors", usage->errors);
    json_out_time(out, "first_seen_ms", usage->first_seen_ms);
    json_out_time(out, "one_variant_since_ms", usage->one_variant_since_ms);
    json_out_close(out, '}');
}

// Selectors by which a killed flag gives something else than to everybody: their sources define it otherwise.
static void write_elsewhere(struct json_out *out, const struct flagset_snapshot *snapshot,
                            const struct flags_info *whole)
{
    const char *selector;
    struct flagset_view view;
    struct flags_info info;
    json_out_open(out, "elsewhere", '[');
    for (uint32_t i = 0; whole->killed && flagset_snapshot_selector(snapshot, i, &selector, &view); i++) {
        if (!flags_image_find(&view.set, whole->key, &info) ||
            slice_equal(info.kill_variant, whole->kill_variant))
            continue;
        json_out_open(out, NULL, '{');
        json_out_text(out, "selector", selector);
        api_write_slice(out, "kill_variant", info.kill_variant);
        json_out_close(out, '}');
    }
    json_out_close(out, ']');
}

void api_flags_show(struct api_call *call)
{
    struct flagset *set = runtime_flagset(targets_of(call->engine)->runtime);
    const struct flagset_snapshot *snapshot = flagset_current(set);
    struct slice key = slice_of(call->words[0]);
    struct json_out *out = &call->out;
    struct flags_info info;
    struct usage_flag usage;
    if (!flags_image_find(&snapshot->all.set, key, &info)) {
        api_flags_unknown(call, key);
        return;
    }
    bool used = usage_of(call->engine, key, &usage);
    struct slice definition;
    const char *document;
    bool defined = flagset_snapshot_definition(snapshot, key, &definition, &document);
    json_out_open(out, NULL, '{');
    write_summary(out, call->engine, snapshot, &info, used ? &usage : NULL);
    write_elsewhere(out, snapshot, &info);
    write_variants(out, &snapshot->all.set, &info, used ? &usage : NULL);
    json_out_count(out, "prerequisites", info.prerequisite_count);
    json_out_bool(out, "schedule", info.has_schedule);
    json_out_raw(out, "definition", defined ? definition : SLICE("null"));
    json_out_raw(out, "metadata", info.metadata.len > 0 ? info.metadata : SLICE("{}"));
    write_usage_whole(out, used ? &usage : NULL);
    write_problems(out, set, key);
    json_out_count(out, "version", snapshot->version);
    json_out_count(out, "change", snapshot->change);
    json_out_close(out, '}');
}

// ---- who changed what ----

static void write_entry(struct json_out *out, const struct runtime_entry *entry)
{
    json_out_open(out, NULL, '{');
    json_out_count(out, "number", entry->number);
    json_out_count(out, "seq", entry->seq);
    json_out_time(out, "time_ms", entry->time_ms);
    json_out_text(out, "op", runtime_op_name(entry->op));
    json_out_text(out, "key", entry->key);
    json_out_text(out, "variant", entry->variant[0] != '\0' ? entry->variant : NULL);
    json_out_text(out, "who", entry->who);
    json_out_text(out, "from", entry->from);
    json_out_close(out, '}');
}

// key: empty for all.
static void write_history(struct api_call *call, struct slice key)
{
    struct engine *engine = call->engine;
    uint32_t limit = API_FLAGS_PAGE_MAX;
    uint32_t total = runtime_history_count(targets_of(engine)->runtime);
    uint32_t matched = 0;
    uint32_t first = total;
    if (!read_limit(call, &limit))
        return;
    for (uint32_t i = total; i > 0; i--) {
        const struct runtime_entry *entry = runtime_history(targets_of(engine)->runtime, i - 1);
        if (key.len > 0 && !slice_equal(key, slice_of(entry->key)))
            continue;
        if (matched++ < limit)
            first = i - 1;
    }
    json_out_open(&call->out, NULL, '{');
    json_out_count(&call->out, "older", matched > limit ? matched - limit : 0);
    json_out_open(&call->out, "changes", '[');
    for (uint32_t i = first; i < total; i++) {
        const struct runtime_entry *entry = runtime_history(targets_of(engine)->runtime, i);
        if (key.len == 0 || slice_equal(key, slice_of(entry->key)))
            write_entry(&call->out, entry);
    }
    json_out_close(&call->out, ']');
    json_out_close(&call->out, '}');
}

void api_flags_history(struct api_call *call)
{
    write_history(call, slice_of(call->words[0]));
}

void api_flags_list(struct api_call *call)
{
    uint32_t limit = API_FLAGS_PAGE_DEFAULT;
    if (api_query_given(call->query, SLICE("export")))
        export_all(call);
    else if (api_query_given(call->query, SLICE("history")))
        write_history(call, SLICE(""));
    else if (read_limit(call, &limit))
        list_page(call, limit);
}
