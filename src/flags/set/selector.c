// SPDX-License-Identifier: Apache-2.0
// Views: the flags that a selector lets its user see. The documents of one source or of one flagSetId are
// compiled into an image of their own, unless they are the whole set. Flags set at runtime belong to a view
// when one of its documents has that flag, or when their own metadata says so. Patches apply to every view.
#include <stdio.h>

#include "flags/set/flagset_private.h"

static const struct slice SOURCE = {"source=", 7};
static const struct slice SET_ID = {"flagSetId=", 10};

static bool has_member(const uint64_t *members, uint32_t i)
{
    return (members[i / 64] >> (i % 64) & 1) != 0;
}

static void add_member(uint64_t *members, uint32_t i)
{
    members[i / 64] |= UINT64_C(1) << (i % 64);
}

static bool same_members(const uint64_t *a, const uint64_t *b)
{
    return memcmp(a, b, FLAGSET_DOCUMENT_WORDS * sizeof *a) == 0;
}

// ---- which selectors there are ----

static struct flagset_selector *find_named(struct flagset_contents *contents, struct slice prefix,
                                           const char *name)
{
    for (uint32_t s = 0; s < contents->selector_count; s++) {
        struct slice have = slice_of(contents->selectors[s].name);
        if (slice_starts_with(have, prefix) &&
            slice_equal((struct slice){have.data + prefix.len, have.len - prefix.len}, slice_of(name)))
            return &contents->selectors[s];
    }
    return NULL;
}

static enum status add_selector(struct flagset_contents *contents, struct slice prefix, const char *name,
                                uint32_t document)
{
    struct flagset_selector *selector = find_named(contents, prefix, name);
    if (selector == NULL) {
        size_t len = prefix.len + strlen(name);
        if (contents->selector_count == FLAGSET_SELECTORS_MAX || len >= FLAGSET_NAME_BYTES + prefix.len) {
            contents->selectors_cut = true;
            return STATUS_OK;
        }
        char *text = heap_alloc(len + 1, 1);
        if (text == NULL)
            return STATUS_NO_MEMORY;
        (void)snprintf(text, len + 1, "%s%s", prefix.data, name);
        selector = &contents->selectors[contents->selector_count++];
        selector->name = text;
    }
    add_member(selector->members, document);
    return STATUS_OK;
}

static enum status list_selectors(struct flagset_contents *contents)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i + 1 < contents->document_count && status == STATUS_OK; i++) {
        const struct flagset_document *document = contents->documents[i];
        status = add_selector(contents, SET_ID, document->set_id != NULL ? document->set_id : "", i);
        if (status == STATUS_OK)
            status = add_selector(contents, SOURCE, document->source, i);
    }
    return status;
}

// ---- the overlay's part of a view ----

// Whether the flag's own metadata puts it into a set.
static bool says_set(struct slice definition, const char *set_id)
{
    enum { NODES = 512, CHARS = 4096 };
    struct flags_json nodes[NODES];
    char chars[CHARS];
    struct flags_json_space space = {.nodes = nodes, .node_cap = NODES, .chars = chars, .char_cap = CHARS};
    struct flags_json_walk walk;
    struct flags_json_error fault;
    struct slice key;
    struct slice value;
    if (flags_json_walk_begin(definition, &walk, &fault) != STATUS_OK)
        return false;
    while (flags_json_walk_next(&walk, &key, &value, &fault) == STATUS_OK) {
        struct flags_json *tree;
        if (!slice_equal(key, SLICE("metadata")) ||
            flags_json_parse(value, &space, &tree, &fault) != STATUS_OK)
            continue;
        const struct flags_json *id = flags_json_member(tree, SLICE("flagSetId"));
        return id != NULL && id->kind == FLAGS_JSON_STRING && slice_equal(id->text, slice_of(set_id));
    }
    return false;
}

static bool belongs(const struct flagset_contents *contents, const struct flagset_selector *selector,
                    const struct flagset_entry *entry)
{
    const struct flagset_document *overlay = contents->documents[contents->document_count - 1];
    char *buffer;
    struct slice key = flagset_document_key(overlay, entry, &buffer);
    bool found = false;
    for (uint32_t i = 0; i + 1 < contents->document_count && !found; i++)
        found =
            has_member(selector->members, i) && flagset_document_find(contents->documents[i], key) != NULL;
    heap_free(buffer);
    if (!found && slice_starts_with(slice_of(selector->name), SET_ID) && selector->name[SET_ID.len] != '\0')
        found = says_set(flagset_document_value(overlay, entry), selector->name + SET_ID.len);
    return found;
}

struct writer {
    char *data;
    size_t len;
};

static void put(struct writer *w, struct slice piece)
{
    memcpy(w->data + w->len, piece.data, piece.len);
    w->len += piece.len;
}

// The overlay with only the flags that belong to the view; the overlay itself when all of them do.
static enum status overlay_part(const struct flagset_contents *contents,
                                const struct flagset_selector *selector, struct flagset_document **part)
{
    struct flagset_document *overlay = contents->documents[contents->document_count - 1];
    char problem[FLAGSET_PROBLEM_BYTES];
    uint32_t kept = 0;
    struct writer w = {heap_alloc(overlay->len + 64, 1), 0};
    if (w.data == NULL)
        return STATUS_NO_MEMORY;
    put(&w, overlay->list ? SLICE("{\"flags\":[") : SLICE("{\"flags\":{"));
    for (uint32_t e = 0; e < overlay->entry_count; e++) {
        const struct flagset_entry *entry = &overlay->entries[e];
        if (!belongs(contents, selector, entry))
            continue;
        if (kept++ > 0)
            put(&w, SLICE(","));
        if (!overlay->list) {
            put(&w, SLICE("\""));
            put(&w, (struct slice){overlay->json + entry->key_at, entry->key_len});
            put(&w, SLICE("\":"));
        }
        put(&w, flagset_document_value(overlay, entry));
    }
    put(&w, overlay->list ? SLICE("]}") : SLICE("}}"));
    if (kept == overlay->entry_count) {
        heap_free(w.data);
        *part = flagset_document_ref(overlay);
        return STATUS_OK;
    }
    return flagset_document_create(overlay->name, overlay->source, w.data, w.len, part, problem);
}

// ---- views ----

static bool is_whole(const struct flagset_contents *contents, const struct flagset_stored_view *view)
{
    for (uint32_t i = 0; i + 1 < contents->document_count; i++)
        if (!has_member(view->members, i))
            return false;
    return view->overlay == contents->documents[contents->document_count - 1];
}

static bool same_text(const struct flagset_document *a, const struct flagset_document *b)
{
    return a == b || (a->len == b->len && memcmp(a->json, b->json, a->len) == 0);
}

static bool same_view(const struct flagset_contents *a, const struct flagset_stored_view *x,
                      const struct flagset_contents *b, const struct flagset_stored_view *y)
{
    uint32_t i = 0;
    uint32_t j = 0;
    if (x->overlay == NULL || y->overlay == NULL || !same_text(x->overlay, y->overlay) ||
        a->segments != b->segments)
        return false;
    // The same documents in the same order; their numbers may differ.
    for (;;) {
        while (i < a->document_count && !has_member(x->members, i))
            i++;
        while (j < b->document_count && !has_member(y->members, j))
            j++;
        if (i >= a->document_count || j >= b->document_count)
            return i >= a->document_count && j >= b->document_count;
        if (a->documents[i++] != b->documents[j++])
            return false;
    }
}

static struct flagset_built *base_before(const struct flagset_contents *contents,
                                         const struct flagset_stored_view *view,
                                         const struct flagset_contents *before)
{
    for (uint32_t v = 1; v < before->view_count; v++)
        if (same_view(contents, view, before, &before->views[v]))
            return flagset_built_ref(before->views[v].base);
    return NULL;
}

// Keeps the first fault of a view that the whole set has not: what the flag needs is not selected.
static void note_view_fault(const struct flagset_builder *builder, struct flagset_contents *contents,
                            const char *selector)
{
    struct flags_info info;
    for (size_t i = 0; i < builder->finding_count && contents->view_problem[0] == '\0'; i++) {
        const struct flags_finding *fault = &builder->findings[i];
        if (fault->severity != FLAGS_FAULT ||
            !flags_image_find(&contents->views[0].base->set, fault->key, &info) || info.fault.len > 0)
            continue;
        struct flags_finding shown = *fault;
        shown.line = 0;
        flagset_finding_text(&shown, selector, contents->view_problem);
    }
}

static enum status compile_view(struct flagset_loader *loader, struct flagset_contents *contents,
                                const char *selector, struct flagset_stored_view *view)
{
    struct flags_bundle_document documents[FLAGS_DOCUMENTS_MAX];
    struct flags_bundle bundle = flagset_contents_bundle(contents, documents);
    uint32_t kept = 0;
    for (uint32_t i = 0; i + 1 < contents->document_count; i++)
        if (has_member(view->members, i))
            documents[kept++] = documents[i];
    documents[kept++] =
        (struct flags_bundle_document){{view->overlay->json, view->overlay->len}, view->overlay->name};
    bundle.document_count = kept;
    bundle.part = true;
    enum status status = flagset_loader_build_bundle(loader, &bundle, &view->base);
    if (status == STATUS_OK)
        note_view_fault(&loader->builder, contents, selector);
    flagset_builder_release(&loader->builder);
    return status;
}

static enum status build_view(struct flagset_loader *loader, struct flagset_contents *contents,
                              struct flagset_selector *selector)
{
    struct flagset_stored_view *view = &contents->views[contents->view_count];
    memcpy(view->members, selector->members, sizeof view->members);
    enum status status = overlay_part(contents, selector, &view->overlay);
    if (status != STATUS_OK)
        return status;
    uint32_t known = is_whole(contents, view) ? 0 : UINT32_MAX;
    for (uint32_t v = 1; v < contents->view_count && known == UINT32_MAX; v++)
        if (same_members(view->members, contents->views[v].members) &&
            same_text(view->overlay, contents->views[v].overlay))
            known = v;
    if (known != UINT32_MAX) {
        selector->view = known;
        flagset_document_unref(view->overlay);
        *view = (struct flagset_stored_view){0};
        return STATUS_OK;
    }
    if (loader->snapshot != NULL)
        view->base = base_before(contents, view, loader->snapshot->contents);
    if (view->base == NULL)
        status = compile_view(loader, contents, selector->name, view);
    if (status == STATUS_OK)
        selector->view = contents->view_count++;
    return status;
}

enum status flagset_views_build(struct flagset_loader *loader, struct flagset_contents *contents)
{
    enum status status = list_selectors(contents);
    for (uint32_t s = 0; s < contents->selector_count && status == STATUS_OK; s++)
        status = build_view(loader, contents, &contents->selectors[s]);
    return status;
}

uint32_t flagset_view_documents(const struct flagset_contents *contents, uint32_t index,
                                const struct flagset_document **documents)
{
    const struct flagset_stored_view *view = &contents->views[index];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < contents->document_count; i++)
        if (index == 0 || (i + 1 < contents->document_count && has_member(view->members, i)))
            documents[kept++] = contents->documents[i];
    if (index != 0)
        documents[kept++] = view->overlay;
    return kept;
}

// ---- finding ----

// A source goes by its whole path, and by the end of it: a file names it relative to its own place.
static bool names_source(struct slice source, struct slice part)
{
    if (part.len == 0 || part.len >= source.len)
        return slice_equal(source, part);
    const char *tail = source.data + source.len - part.len;
    return tail[-1] == '/' && memcmp(tail, part.data, part.len) == 0;
}

// Parses one part of a selector: "key=value", or a source. False when it is malformed or names nothing.
static bool find_part(const struct flagset_contents *contents, struct slice part, uint64_t *members)
{
    bool keyed = memchr(part.data, '=', part.len) != NULL && !slice_starts_with(part, SOURCE);
    if (slice_starts_with(part, SOURCE))
        part = (struct slice){part.data + SOURCE.len, part.len - SOURCE.len};
    for (uint32_t s = 0; s < contents->selector_count; s++) {
        struct slice name = slice_of(contents->selectors[s].name);
        if (!keyed && !slice_starts_with(name, SOURCE))
            continue;
        if (!keyed)
            name = (struct slice){name.data + SOURCE.len, name.len - SOURCE.len};
        if (keyed ? !slice_equal(name, part) : !names_source(name, part))
            continue;
        for (uint32_t w = 0; w < FLAGSET_DOCUMENT_WORDS; w++)
            members[w] &= contents->selectors[s].members[w];
        return true;
    }
    return false;
}

static uint32_t view_with(const struct flagset_contents *contents, const uint64_t *members)
{
    for (uint32_t s = 0; s < contents->selector_count; s++)
        if (same_members(contents->selectors[s].members, members))
            return contents->selectors[s].view;
    return UINT32_MAX;
}

uint32_t flagset_selector_find(const struct flagset_contents *contents, struct slice selector)
{
    for (uint32_t s = 0; s < contents->selector_count; s++)
        if (slice_equal(slice_of(contents->selectors[s].name), selector))
            return contents->selectors[s].view;
    uint64_t members[FLAGSET_DOCUMENT_WORDS];
    memset(members, 0xff, sizeof members);
    // A source's name may hold commas and equals signs, so the whole text is first looked up as a name.
    if (find_part(contents, (struct slice){selector.data, selector.len}, members))
        return view_with(contents, members);
    for (size_t at = 0; at <= selector.len;) {
        const char *comma = memchr(selector.data + at, ',', selector.len - at);
        size_t end = comma != NULL ? (size_t)(comma - selector.data) : selector.len;
        if (!find_part(contents, (struct slice){selector.data + at, end - at}, members))
            return UINT32_MAX;
        at = end + 1;
    }
    return view_with(contents, members);
}
