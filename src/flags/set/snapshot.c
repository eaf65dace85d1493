// SPDX-License-Identifier: Apache-2.0
// Snapshots: the loader makes them, any thread reads and releases them. After that only the reference count
// and the counters of its readers change.
#include "flags/set/flagset_private.h"

enum {
    // Space between the counters of two readers, so that they share no cache line.
    TALLY_GAP = 64 / sizeof(uint64_t),
};

static uint64_t tag_of(const struct flags_image *set)
{
    uint64_t tag = flags_image_checksum(set);
    return tag != 0 ? tag : 1;
}

static struct flagset_view view_of(const struct flagset_contents *contents, uint32_t index)
{
    const struct flags_image *set = &contents->views[index].image->set;
    return (struct flagset_view){
        .set = *set, .tag = tag_of(set), .index = index, .times = contents->views[index].image->times};
}

// ---- contents ----

struct flagset_contents *flagset_contents_create(struct flagset_built *empty)
{
    struct flagset_contents *contents = heap_alloc(1, sizeof *contents);
    if (contents != NULL)
        contents->empty = flagset_built_ref(empty);
    return contents;
}

void flagset_contents_destroy(struct flagset_contents *contents)
{
    if (contents == NULL)
        return;
    for (uint32_t i = 0; i < contents->document_count; i++)
        flagset_document_unref(contents->documents[i]);
    for (uint32_t i = 0; i < ARRAY_LEN(contents->views); i++) {
        flagset_document_unref(contents->views[i].overlay);
        flagset_built_unref(contents->views[i].base);
        flagset_built_unref(contents->views[i].image);
    }
    for (uint32_t i = 0; i < contents->selector_count; i++)
        heap_free(contents->selectors[i].name);
    flagset_document_unref(contents->segments);
    flagset_patches_unref(contents->patches);
    flagset_built_unref(contents->empty);
    heap_free(contents);
}

struct flags_bundle flagset_contents_bundle(const struct flagset_contents *contents,
                                            struct flags_bundle_document *documents)
{
    struct flags_bundle bundle = {.documents = documents, .document_count = contents->document_count};
    for (uint32_t i = 0; i < contents->document_count; i++)
        documents[i] = (struct flags_bundle_document){
            .json = {contents->documents[i]->json, contents->documents[i]->len},
            .name = contents->documents[i]->name};
    if (contents->segments != NULL)
        bundle.segments = (struct slice){contents->segments->json, contents->segments->len};
    return bundle;
}

// ---- snapshots ----

static void free_counts(struct flags_tally *tally)
{
    union {
        _Atomic uint64_t *counts;
        void *block;
    } both = {.counts = tally->counts};
    heap_free(both.block);
}

static void destroy(struct flagset_snapshot *snapshot)
{
    for (uint32_t r = 0; snapshot->tallies != NULL && r < snapshot->reader_count; r++)
        free_counts(&snapshot->tallies[r]);
    heap_free(snapshot->tallies);
    flagset_contents_destroy(snapshot->contents);
    heap_free(snapshot);
}

static enum status make_tallies(struct flagset_snapshot *snapshot)
{
    uint32_t count = flags_image_counter_count(&snapshot->all.set);
    snapshot->tallies = heap_alloc(snapshot->reader_count + 1, sizeof *snapshot->tallies);
    if (snapshot->tallies == NULL)
        return STATUS_NO_MEMORY;
    for (uint32_t r = 0; r < snapshot->reader_count; r++) {
        // Untouched pages take no memory, so with a large set each reader only pays for the counters it uses.
        void *counts = heap_alloc((size_t)count + TALLY_GAP, sizeof(uint64_t));
        if (counts == NULL)
            return STATUS_NO_MEMORY;
        snapshot->tallies[r] = (struct flags_tally){.counts = counts, .count = count};
    }
    return STATUS_OK;
}

enum status flagset_snapshot_create(struct flagset_contents *contents, uint64_t version, uint64_t change,
                                    uint32_t reader_count, struct flagset_snapshot **out)
{
    struct flagset_snapshot *snapshot = heap_alloc(1, sizeof *snapshot);
    if (snapshot == NULL)
        return STATUS_NO_MEMORY;
    *snapshot = (struct flagset_snapshot){
        .references = 1,
        .all = view_of(contents, 0),
        .version = version,
        .change = change,
        .changed_ms = flagset_wall_ms(),
        .reader_count = reader_count,
    };
    if (make_tallies(snapshot) != STATUS_OK) {
        destroy(snapshot);
        return STATUS_NO_MEMORY;
    }
    snapshot->contents = contents;
    *out = snapshot;
    return STATUS_OK;
}

// Counting is the only change of a snapshot, so the const of its readers is cast away here and nowhere else.
static struct flagset_snapshot *counted(const struct flagset_snapshot *snapshot)
{
    union {
        const struct flagset_snapshot *shared;
        struct flagset_snapshot *own;
    } both = {.shared = snapshot};
    return both.own;
}

const struct flagset_snapshot *flagset_snapshot_ref(const struct flagset_snapshot *snapshot)
{
    atomic_fetch_add_explicit(&counted(snapshot)->references, 1, memory_order_relaxed);
    return snapshot;
}

void flagset_snapshot_unref(const struct flagset_snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    uint32_t before = atomic_fetch_sub_explicit(&counted(snapshot)->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before == 1)
        destroy(counted(snapshot));
}

bool flagset_snapshot_view(const struct flagset_snapshot *snapshot, struct slice selector,
                           struct flagset_view *view)
{
    const struct flagset_contents *contents = snapshot->contents;
    if (selector.len == 0) {
        *view = snapshot->all;
        return true;
    }
    uint32_t index = flagset_selector_find(contents, selector);
    if (index == UINT32_MAX) {
        const struct flags_image *set = &contents->empty->set;
        *view = (struct flagset_view){.set = *set, .tag = tag_of(set), .index = UINT32_MAX};
        return false;
    }
    *view = view_of(contents, index);
    return true;
}

bool flagset_snapshot_selector(const struct flagset_snapshot *snapshot, uint32_t i, const char **selector,
                               struct flagset_view *view)
{
    const struct flagset_contents *contents = snapshot->contents;
    if (i >= contents->selector_count)
        return false;
    *selector = contents->selectors[i].name;
    *view = view_of(contents, contents->selectors[i].view);
    return true;
}

bool flagset_snapshot_definition(const struct flagset_snapshot *snapshot, struct slice key,
                                 struct slice *json, const char **name)
{
    struct flags_info info;
    if (!flags_image_find(&snapshot->all.set, key, &info) ||
        info.document >= snapshot->contents->document_count)
        return false;
    const struct flagset_document *document = snapshot->contents->documents[info.document];
    const struct flagset_entry *entry = flagset_document_find(document, key);
    if (entry == NULL)
        return false;
    *json = flagset_document_value(document, entry);
    *name = document->name;
    return true;
}

bool flagset_snapshot_split(const struct flagset_snapshot *snapshot, struct slice key, uint32_t *share)
{
    struct flags_info info;
    const struct flags_patch *patch = flagset_patches_find(snapshot->contents->patches, key);
    if (patch == NULL || !patch->split || !flags_image_find(&snapshot->all.set, key, &info) || !info.split)
        return false;
    *share = patch->split_share;
    return true;
}

bool flagset_snapshot_document(const struct flagset_snapshot *snapshot, uint32_t i, const char **name,
                               struct slice *json)
{
    if (i >= snapshot->contents->document_count)
        return false;
    const struct flagset_document *document = snapshot->contents->documents[i];
    *name = document->name;
    *json = (struct slice){document->json, document->len};
    return true;
}
