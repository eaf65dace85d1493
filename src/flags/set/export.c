// SPDX-License-Identifier: Apache-2.0
// One flagd file that says what a snapshot, or one of its views, says: the flags that won, each as its
// document writes it, with what stands over it at runtime. Evaluators of one name but different meaning are
// renamed, and with them the references to them. Invariant: of a view nothing is written but what its own
// documents hold, and those segments that they refer to.
#include <stdio.h>

#include "flags/set/flagset_private.h"

#define SEGMENTS UINT32_MAX // as the origin of an evaluator

enum { RENAMED_BYTES = 24 };

struct evaluator {
    struct slice name; // as written, without quotes
    struct slice rule;
    char *renamed; // heap; NULL: by its own name
    uint32_t origin;
    bool twin;   // the same as an earlier one
    bool wanted; // something that is written refers to it
    bool written;
};

struct output {
    const struct flagset_snapshot *snapshot;
    const struct flags_image *set; // of the view
    const struct flagset_document *documents[FLAGS_DOCUMENTS_MAX];
    uint32_t document_count;
    bool part; // not the whole
    struct json_out json;
    struct evaluator *evaluators;
    uint32_t evaluator_count;
    uint32_t evaluator_cap;
    bool used[FLAGS_DOCUMENTS_MAX]; // documents with flags that won
    bool one_metadata;              // all used documents have the same
};

// ---- writing ----

// A member's name as it was written.
static void add_name(struct output *out, struct slice raw, bool *first)
{
    if (!*first)
        JSON_OUT(&out->json, ",");
    *first = false;
    JSON_OUT(&out->json, "\"");
    json_out_bytes(&out->json, raw);
    JSON_OUT(&out->json, "\":");
}

// ---- evaluators ----

static bool mentions(struct slice text, struct slice word)
{
    return memmem(text.data, text.len, word.data, word.len) != NULL;
}

static bool name_taken(const struct output *out, const char *name)
{
    for (uint32_t i = 0; i < out->evaluator_count; i++) {
        const struct evaluator *e = &out->evaluators[i];
        if (slice_equal(e->renamed != NULL ? slice_of(e->renamed) : e->name, slice_of(name)))
            return true;
    }
    return false;
}

static char *new_name(const struct output *out, struct slice name, uint32_t origin)
{
    char *renamed = heap_alloc(name.len + RENAMED_BYTES, 1);
    if (renamed == NULL)
        return NULL;
    // A bare number could be the end of another's name: then one more stroke.
    for (uint32_t strokes = 1; strokes < 8; strokes++) {
        (void)snprintf(renamed, name.len + RENAMED_BYTES, "%.*s%.*s%u", SLICE_ARG(name), (int)strokes,
                       "-------", origin + 1);
        if (!name_taken(out, renamed))
            break;
    }
    return renamed;
}

static void add_evaluator(struct output *out, struct slice name, struct slice rule, uint32_t origin)
{
    if (out->evaluator_count == out->evaluator_cap) {
        uint32_t cap = 2 * out->evaluator_cap + 16;
        void *grown = heap_resize(out->evaluators, cap * sizeof *out->evaluators);
        if (grown == NULL) {
            out->json.status = STATUS_NO_MEMORY;
            return;
        }
        out->evaluators = grown;
        out->evaluator_cap = cap;
    }
    out->evaluators[out->evaluator_count++] =
        (struct evaluator){.name = name, .rule = rule, .origin = origin};
}

// When all are known, so that no new name is one that another has.
static void settle_names(struct output *out)
{
    for (uint32_t i = 0; i < out->evaluator_count; i++) {
        struct evaluator *added = &out->evaluators[i];
        bool taken = false;
        for (uint32_t k = 0; k < i; k++) {
            const struct evaluator *e = &out->evaluators[k];
            if (!slice_equal(e->name, added->name))
                continue;
            taken = true;
            // References in it may mean something else in the other document.
            added->twin |= e->renamed == NULL && slice_equal(e->rule, added->rule) &&
                           !mentions(added->rule, SLICE("$ref"));
        }
        if (!taken || added->twin)
            continue;
        added->renamed = new_name(out, added->name, added->origin);
        if (added->renamed == NULL)
            out->json.status = STATUS_NO_MEMORY;
    }
}

static void gather_evaluators(struct output *out, struct slice object, uint32_t origin)
{
    struct flags_json_walk walk;
    struct flags_json_error fault;
    struct slice name;
    struct slice rule;
    if (object.len == 0 || flags_json_walk_begin(object, &walk, &fault) != STATUS_OK)
        return;
    while (out->json.status == STATUS_OK && flags_json_walk_next(&walk, &name, &rule, &fault) == STATUS_OK)
        add_evaluator(out, name, rule, origin);
}

// What a reference within `origin` means: the document's own evaluator first, then the segment, then that of
// the last document that has one.
static struct evaluator *resolve(struct output *out, struct slice name, uint32_t origin)
{
    struct evaluator *segment = NULL;
    struct evaluator *other = NULL;
    for (uint32_t i = 0; i < out->evaluator_count; i++) {
        struct evaluator *e = &out->evaluators[i];
        if (!slice_equal(e->name, name))
            continue;
        if (e->origin == origin)
            return e;
        if (e->origin == SEGMENTS)
            segment = e;
        else
            other = e;
    }
    return segment != NULL ? segment : other;
}

// A twin is written as the one it is the same as.
static void want(struct output *out, struct evaluator *meant)
{
    meant->wanted = true;
    for (uint32_t i = 0; i < out->evaluator_count && meant->twin; i++)
        if (slice_equal(out->evaluators[i].name, meant->name) && out->evaluators[i].renamed == NULL)
            out->evaluators[i].wanted = true;
}

// Copies the rule up to each reference that has another name now, and writes that instead. *at: what is
// copied already.
static void add_references(struct output *out, const struct flags_json *node, uint32_t origin,
                           const char **at)
{
    const struct flags_json *name = node->first;
    if (node->kind == FLAGS_JSON_OBJECT && node->count == 1 && slice_equal(name->key, SLICE("$ref")) &&
        name->kind == FLAGS_JSON_STRING) {
        struct evaluator *e = resolve(out, name->text, origin);
        if (e != NULL)
            want(out, e);
        if (e == NULL || e->renamed == NULL)
            return;
        json_out_bytes(&out->json, (struct slice){*at, (size_t)(node->text.data - *at)});
        JSON_OUT(&out->json, "{\"$ref\":\"");
        json_out_bytes(&out->json, slice_of(e->renamed));
        JSON_OUT(&out->json, "\"}");
        *at = node->text.data + node->text.len;
        return;
    }
    if (node->kind != FLAGS_JSON_OBJECT && node->kind != FLAGS_JSON_ARRAY)
        return;
    for (const struct flags_json *child = node->first; child != NULL; child = child->next)
        add_references(out, child, origin, at);
}

static void add_rule(struct output *out, struct slice rule, uint32_t origin)
{
    struct flagset_tree tree;
    struct flags_json_error fault;
    const char *at = rule.data;
    enum status status = STATUS_INVALID;
    if (mentions(rule, SLICE("$ref")))
        status = flagset_tree_parse(rule, &tree, &fault);
    else
        tree = (struct flagset_tree){0};
    if (status == STATUS_OK)
        add_references(out, tree.root, origin, &at);
    else if (status == STATUS_NO_MEMORY)
        out->json.status = status;
    json_out_bytes(&out->json, (struct slice){at, rule.len - (size_t)(at - rule.data)});
    flagset_tree_free(&tree);
}

// A segment belongs to everybody, but a view shows only those it uses.
static bool is_due(const struct output *out, const struct evaluator *e)
{
    return !e->twin && !e->written && (e->wanted || !out->part || e->origin != SEGMENTS);
}

// After the flags, whose references tell what is wanted. What is written may want more: so until nothing is
// due.
static void add_evaluators(struct output *out)
{
    bool first = true;
    bool more = true;
    while (more) {
        more = false;
        for (uint32_t i = 0; i < out->evaluator_count; i++) {
            struct evaluator *e = &out->evaluators[i];
            if (!is_due(out, e))
                continue;
            json_out_bytes(&out->json, first ? SLICE(",\n\"$evaluators\":{\n") : SLICE(""));
            add_name(out, e->renamed != NULL ? slice_of(e->renamed) : e->name, &first);
            e->written = true;
            more = true;
            add_rule(out, e->rule, e->origin);
        }
    }
    json_out_bytes(&out->json, first ? SLICE("") : SLICE("\n}"));
}

// ---- flags ----

// A kill as others read it: they know the state and the default variant, not our kill.
static bool kill_variant(const struct flags_info *info)
{
    return info->killed && info->kill_variant.len > 0;
}

static void add_kill(struct output *out, const struct flags_info *info, bool *first)
{
    add_name(out, SLICE("kill"), first);
    if (kill_variant(info))
        json_out_quote(&out->json, info->kill_variant);
    else
        JSON_OUT(&out->json, "true");
}

static void add_extension(struct output *out, struct slice value, const struct flags_info *info)
{
    struct flags_json_walk walk;
    struct flags_json_error fault;
    struct slice name;
    struct slice member;
    bool first = true;
    JSON_OUT(&out->json, "{");
    if (value.len > 0 && flags_json_walk_begin(value, &walk, &fault) == STATUS_OK) {
        while (flags_json_walk_next(&walk, &name, &member, &fault) == STATUS_OK) {
            if (slice_equal(name, SLICE("kill")))
                continue;
            add_name(out, name, &first);
            json_out_bytes(&out->json, member);
        }
    }
    if (info->killed)
        add_kill(out, info, &first);
    JSON_OUT(&out->json, "}");
}

static void add_member(struct output *out, const struct flags_info *info, struct slice name,
                       struct slice value)
{
    if (slice_equal(name, SLICE("targeting")))
        add_rule(out, value, info->document);
    else if (slice_equal(name, SLICE("x-sluice")))
        add_extension(out, value, info);
    else
        json_out_bytes(&out->json, value);
}

// What is said anew below, or of a flag that is off must not be said to others.
static bool is_replaced(const struct output *out, const struct flags_info *info, bool list, struct slice name)
{
    if (slice_equal(name, SLICE("state")) || (list && slice_equal(name, SLICE("key"))))
        return true;
    if (slice_equal(name, SLICE("metadata")))
        return !out->one_metadata;
    return kill_variant(info) &&
           (slice_equal(name, SLICE("defaultVariant")) || slice_equal(name, SLICE("targeting")));
}

static void add_flag(struct output *out, const struct flags_info *info)
{
    struct flags_json_walk walk;
    struct flags_json_error fault;
    struct slice json;
    struct slice name;
    struct slice value;
    const struct flagset_document *document = out->documents[info->document];
    const struct flagset_entry *entry = flagset_document_find(document, info->key);
    bool on = info->enabled && (!info->killed || kill_variant(info));
    bool extended = false;
    bool first = false;
    CHECK(entry != NULL);
    json = flagset_document_value(document, entry);
    if (flags_json_walk_begin(json, &walk, &fault) != STATUS_OK)
        return;
    json_out_bytes(&out->json, on ? SLICE("{\"state\":\"ENABLED\"") : SLICE("{\"state\":\"DISABLED\""));
    if (kill_variant(info)) {
        add_name(out, SLICE("defaultVariant"), &first);
        json_out_quote(&out->json, info->kill_variant);
    }
    while (flags_json_walk_next(&walk, &name, &value, &fault) == STATUS_OK) {
        if (is_replaced(out, info, document->list, name))
            continue;
        extended |= slice_equal(name, SLICE("x-sluice"));
        add_name(out, name, &first);
        add_member(out, info, name, value);
    }
    if (!out->one_metadata && info->metadata.len > 0) {
        add_name(out, SLICE("metadata"), &first);
        json_out_bytes(&out->json, info->metadata);
    }
    if (info->killed && !extended) {
        add_name(out, SLICE("x-sluice"), &first);
        add_extension(out, (struct slice){"", 0}, info);
    }
    JSON_OUT(&out->json, "}");
}

static void add_flags(struct output *out)
{
    struct flags_info info;
    uint32_t cursor = 0;
    bool first = true;
    JSON_OUT(&out->json, "{\"flags\":{");
    while (out->json.status == STATUS_OK && flags_image_next(out->set, &cursor, &info)) {
        json_out_bytes(&out->json, first ? SLICE("\n") : SLICE(",\n"));
        first = false;
        json_out_quote(&out->json, info.key);
        JSON_OUT(&out->json, ":");
        add_flag(out, &info);
    }
    JSON_OUT(&out->json, "\n}");
}

// ---- the whole ----

// The number after "fractional", or 0 when the settings do not say.
static uint32_t generation_of(const struct flagset_document *document)
{
    struct flagset_tree tree;
    struct flags_json_error fault;
    uint32_t generation = 0;
    if (document->settings.len == 0)
        return 0;
    if (flagset_tree_parse(document->settings, &tree, &fault) == STATUS_OK) {
        const struct flags_json *member = flags_json_member(tree.root, SLICE("fractional"));
        if (member != NULL && member->kind == FLAGS_JSON_NUMBER)
            generation = (uint32_t)member->number;
    }
    flagset_tree_free(&tree);
    return generation;
}

static void mark_used(struct output *out)
{
    struct flags_info info;
    uint32_t cursor = 0;
    while (flags_image_next(out->set, &cursor, &info))
        out->used[info.document] = true;
}

// What all used documents must share, since a file can say it once only. False: they differ in how they
// bucket.
static bool find_common(struct output *out, uint32_t *generation, struct slice *metadata)
{
    bool first = true;
    out->one_metadata = true;
    for (uint32_t i = 0; i < out->document_count; i++) {
        const struct flagset_document *document = out->documents[i];
        uint32_t own = out->used[i] ? generation_of(document) : 0;
        if (!out->used[i])
            continue;
        if (own == 0)
            own = FLAGS_GENERATION_3;
        if (!first && own != *generation)
            return false;
        if (!first && !slice_equal(document->metadata, *metadata))
            out->one_metadata = false;
        *generation = own;
        *metadata = document->metadata;
        first = false;
    }
    return true;
}

static void write_all(struct output *out, uint32_t generation, struct slice metadata)
{
    const struct flagset_contents *contents = out->snapshot->contents;
    if (contents->segments != NULL)
        gather_evaluators(out, (struct slice){contents->segments->json, contents->segments->len}, SEGMENTS);
    // Of all documents: rules may refer to those of others.
    for (uint32_t i = 0; i < out->document_count; i++)
        gather_evaluators(out, out->documents[i]->evaluators, i);
    settle_names(out);
    add_flags(out);
    add_evaluators(out);
    if (out->one_metadata && metadata.len > 0) {
        JSON_OUT(&out->json, ",\n\"metadata\":");
        json_out_bytes(&out->json, metadata);
    }
    if (generation != FLAGS_GENERATION_3) {
        char settings[48];
        (void)snprintf(settings, sizeof settings, ",\n\"x-sluice\":{\"fractional\":%u}", generation);
        json_out_bytes(&out->json, slice_of(settings));
    }
    JSON_OUT(&out->json, "}\n");
    json_out_bytes(&out->json, (struct slice){"", 1}); // a NUL, which does not count
    out->json.len--;
}

static enum status write_view(struct output *out)
{
    uint32_t generation = FLAGS_GENERATION_3;
    struct slice metadata = {"", 0};
    mark_used(out);
    if (!find_common(out, &generation, &metadata))
        return STATUS_CONFLICT;
    write_all(out, generation, metadata);
    return out->json.status;
}

enum status flagset_snapshot_export_view(const struct flagset_snapshot *snapshot, struct slice selector,
                                         char **json, size_t *len)
{
    struct output *out = heap_alloc(1, sizeof *out);
    struct flagset_view view;
    if (out == NULL)
        return STATUS_NO_MEMORY;
    // What matches nothing is an empty set, as for evaluation.
    bool matched = flagset_snapshot_view(snapshot, selector, &view);
    out->snapshot = snapshot;
    out->set = &view.set;
    out->part = !matched || view.index != 0;
    if (matched)
        out->document_count = flagset_view_documents(snapshot->contents, view.index, out->documents);
    enum status status = write_view(out);
    for (uint32_t i = 0; i < out->evaluator_count; i++)
        heap_free(out->evaluators[i].renamed);
    heap_free(out->evaluators);
    if (status == STATUS_OK) {
        *json = out->json.data;
        *len = out->json.len;
    } else {
        json_out_free(&out->json);
    }
    heap_free(out);
    return status;
}

enum status flagset_snapshot_export(const struct flagset_snapshot *snapshot, char **json, size_t *len)
{
    return flagset_snapshot_export_view(snapshot, SLICE(""), json, len);
}
