// SPDX-License-Identifier: Apache-2.0
// Decides what comes into force. The newest versions of all documents are compiled together. A document with
// errors is replaced by its previous version and the rest is tried again, so that one bad file stops no
// other. When errors concern no new document of their own, everything new is refused. Nothing is ever half in
// force: a snapshot is made whole, then put in force.
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "flags/set/flagset_private.h"

struct trial {
    struct flagset_loader *loader;
    struct flagset_item *items[FLAGS_DOCUMENTS_MAX]; // of each document in turn
    struct flagset_document *chosen[FLAGS_DOCUMENTS_MAX];
    uint32_t item_count;
    // The documents of a bundle are numbered without gaps; this is the item of each number.
    uint32_t item_of[FLAGS_DOCUMENTS_MAX];
    struct flagset_document *reduced; // the newest overlay without the flags that have errors, or NULL
    bool old_overlay;                 // take the previous overlay; a newer one may come while this goes on
    struct flagset_document *segments;
    bool fallen_back;                 // everything is back to its previous version
    bool faulty[FLAGS_DOCUMENTS_MAX]; // items with a rule that cannot be evaluated, in the last compilation
};

static void add_message(struct flagset_messages *words, const char *line)
{
    for (uint32_t i = 0; i < words->count; i++)
        if (strcmp(words->lines[i], line) == 0)
            return;
    if (words->count < FLAGSET_PROBLEMS_MAX)
        (void)snprintf(words->lines[words->count++], FLAGSET_PROBLEM_BYTES, "%s", line);
}

// ---- faults ----

static const char *name_of(const struct flagset_contents *contents, const struct flags_finding *fault)
{
    if (fault->document < contents->document_count)
        return contents->documents[fault->document]->name;
    return fault->line > 0 ? "segments" : "runtime";
}

// Notes errors, or all that is none.
static void note_faults(const struct flagset_builder *builder, const struct flagset_contents *contents,
                        bool errors, struct flagset_messages *words)
{
    for (size_t i = 0; i < builder->finding_count; i++) {
        char line[FLAGSET_PROBLEM_BYTES];
        const struct flags_finding *fault = &builder->findings[i];
        if ((fault->severity == FLAGS_ERROR) != errors)
            continue;
        flagset_finding_text(fault, name_of(contents, fault), line);
        add_message(words, line);
    }
}

// ---- an overlay with errors in some flags ----

static bool blames_overlay(const struct flagset_contents *contents, const struct flags_finding *fault)
{
    return fault->severity == FLAGS_ERROR && fault->document + 1 == contents->document_count;
}

static bool at_fault(const struct flagset_builder *builder, const struct flagset_contents *contents,
                     struct slice key)
{
    for (size_t i = 0; i < builder->finding_count; i++)
        if (blames_overlay(contents, &builder->findings[i]) && slice_equal(builder->findings[i].key, key))
            return true;
    return false;
}

// Whether the faulty flags can be left out of the overlay: every error names a flag, and none of them is in
// force.
static bool can_reduce(const struct flagset_loader *loader, const struct flagset_contents *contents)
{
    const struct flagset_document *overlay = contents->documents[contents->document_count - 1];
    bool any = false;
    for (size_t i = 0; i < loader->builder.finding_count; i++) {
        const struct flags_finding *fault = &loader->builder.findings[i];
        if (!blames_overlay(contents, fault))
            continue;
        if (flagset_document_find(overlay, fault->key) == NULL ||
            flagset_document_find(loader->overlay_good, fault->key) != NULL)
            return false;
        any = true;
    }
    return any;
}

static size_t put(char *out, struct slice text)
{
    if (text.len > 0)
        memcpy(out, text.data, text.len);
    return text.len;
}

// The overlay holds many changes by many people. When one flag no longer fits the files after a restart, the
// others must not be lost with it. NULL: the faulty flags cannot be left out, or there is no memory.
static struct flagset_document *without_faults(const struct flagset_loader *loader,
                                               const struct flagset_contents *contents)
{
    const struct flagset_document *overlay = contents->documents[contents->document_count - 1];
    struct flagset_document *reduced = NULL;
    char problem[FLAGSET_PROBLEM_BYTES];
    if (!can_reduce(loader, contents))
        return NULL;
    char *json = heap_alloc(overlay->len + (size_t)overlay->entry_count * 8 + 32, 1);
    if (json == NULL)
        return NULL;
    size_t len = put(json, SLICE("{\"flags\":{"));
    const char *comma = "";
    for (uint32_t i = 0; i < overlay->entry_count; i++) {
        const struct flagset_entry *entry = &overlay->entries[i];
        char *buffer;
        bool leave_out = at_fault(&loader->builder, contents, flagset_document_key(overlay, entry, &buffer));
        heap_free(buffer);
        if (leave_out)
            continue;
        len += put(json + len, slice_of(comma));
        len += put(json + len, SLICE("\n\""));
        len += put(json + len, (struct slice){overlay->json + entry->key_at, entry->key_len});
        len += put(json + len, SLICE("\":"));
        len += put(json + len, flagset_document_value(overlay, entry));
        comma = ",";
    }
    len += put(json + len, SLICE("}}"));
    if (flagset_document_create("runtime", "runtime", json, len, &reduced, problem) != STATUS_OK)
        return NULL;
    return reduced;
}

// The overlay of these contents has errors: leaves out the faulty flags or goes back to the previous overlay.
// False: the overlay was in force already.
static bool blame_overlay(struct trial *trial, const struct flagset_contents *contents)
{
    struct flagset_loader *loader = trial->loader;
    if (trial->old_overlay)
        return false;
    struct flagset_document *reduced = without_faults(loader, contents);
    if (reduced != NULL) {
        flagset_document_unref(trial->reduced);
        trial->reduced = reduced;
        return true;
    }
    trial->old_overlay = true;
    return loader->overlay != loader->overlay_good;
}

// Goes back to the previous version of the new documents that findings name. False: there was none.
static bool blame(struct trial *trial, const struct flagset_contents *contents)
{
    struct flagset_loader *loader = trial->loader;
    const struct flagset_builder *builder = &loader->builder;
    bool put_back = false, overlay = false;
    for (size_t i = 0; i < builder->finding_count; i++) {
        const struct flags_finding *fault = &builder->findings[i];
        if (fault->severity != FLAGS_ERROR)
            continue;
        if (fault->document >= contents->document_count) {
            put_back |= trial->segments != loader->segments_good;
            trial->segments = loader->segments_good;
        } else if (fault->document + 1 == contents->document_count) {
            put_back |= !overlay && blame_overlay(trial, contents);
            overlay = true;
        } else {
            uint32_t at = trial->item_of[fault->document];
            put_back |= trial->chosen[at] != trial->items[at]->good;
            trial->chosen[at] = trial->items[at]->good;
        }
    }
    return put_back;
}

static bool fall_back(struct trial *trial)
{
    struct flagset_loader *loader = trial->loader;
    if (trial->fallen_back)
        return false;
    for (uint32_t i = 0; i < trial->item_count; i++)
        trial->chosen[i] = trial->items[i]->good;
    trial->old_overlay = true;
    trial->segments = loader->segments_good;
    trial->fallen_back = true;
    return true;
}

// ---- making a snapshot ----

struct compilation {
    struct flagset_loader *loader;
    const struct flags_bundle *bundle;
    struct flagset_built **image;
    enum status status;
    atomic_bool done;
};

static void *compile_apart(void *context)
{
    struct compilation *compilation = context;
    uint64_t one = 1;
    compilation->status =
        flagset_build(&compilation->loader->builder, compilation->bundle, compilation->image);
    atomic_store_explicit(&compilation->done, true, memory_order_release);
    (void)!write(compilation->loader->wake_fd, &one, sizeof one);
    return NULL;
}

static bool is_large(const struct flags_bundle *bundle)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < bundle->document_count; i++)
        bytes += bundle->documents[i].json.len;
    return bytes > FLAGSET_APART_BYTES;
}

enum status flagset_loader_build_bundle(struct flagset_loader *loader, const struct flags_bundle *bundle,
                                        struct flagset_built **image)
{
    struct compilation compilation = {.loader = loader, .bundle = bundle, .image = image};
    pthread_t thread;
    bool apart = loader->breathe != NULL && is_large(bundle);
    if (!apart || pthread_create(&thread, NULL, compile_apart, &compilation) != 0)
        return flagset_build(&loader->builder, bundle, image);
    while (!atomic_load_explicit(&compilation.done, memory_order_acquire)) {
        struct pollfd fd = {.fd = loader->wake_fd, .events = POLLIN};
        uint64_t count;
        (void)poll(&fd, 1, 1000);
        (void)!read(loader->wake_fd, &count, sizeof count);
        loader->woken = true;
        loader->breathe(loader->context);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    return compilation.status;
}

// Patches every view.
static enum status patch_views(struct flagset_loader *loader, struct flagset_builder *builder,
                               struct flagset_contents *contents)
{
    loader->patch_warnings.count = 0;
    for (uint32_t v = 0; v < contents->view_count; v++) {
        struct flagset_stored_view *view = &contents->views[v];
        enum status status = flagset_build_patched(builder, view->base, contents->patches, &view->image);
        if (status != STATUS_OK)
            return status;
        if (v == 0)
            note_faults(builder, contents, false, &loader->patch_warnings);
        flagset_builder_release(builder);
    }
    return STATUS_OK;
}

// Notes which items have rules that cannot be evaluated. A source that comes with such a rule is taken, as by
// flagd, and its flag answers PARSE_ERROR; a source that is in force without any must not lose a rule to a
// new content, as lint says too: then it is an error, and STATUS_INVALID.
static enum status weigh_faults(struct trial *trial, const struct flagset_contents *contents)
{
    struct flagset_builder *builder = &trial->loader->builder;
    enum status status = STATUS_OK;
    memset(trial->faulty, 0, sizeof trial->faulty);
    for (size_t i = 0; i < builder->finding_count; i++) {
        struct flags_finding *fault = &builder->findings[i];
        if (fault->severity != FLAGS_FAULT || fault->document + 1 >= contents->document_count)
            continue;
        uint32_t at = trial->item_of[fault->document];
        const struct flagset_item *item = trial->items[at];
        trial->faulty[at] = true;
        if (trial->fallen_back || item->good == NULL || item->faulty)
            continue;
        fault->severity = FLAGS_ERROR;
        status = STATUS_INVALID;
    }
    return status;
}

// Compiles contents whose documents and segments are set. The patches are taken from the loader after the
// compilation, because they may change meanwhile. trial: NULL when the sources are those in force.
// STATUS_INVALID: the loader's builder holds the findings.
static enum status compile_contents(struct flagset_loader *loader, struct flagset_contents *contents,
                                    struct trial *trial)
{
    struct flags_bundle_document documents[FLAGS_DOCUMENTS_MAX];
    struct flags_bundle bundle = flagset_contents_bundle(contents, documents);
    uint64_t begin_us = flagset_now_us();
    enum status status = flagset_loader_build_bundle(loader, &bundle, &contents->views[0].base);
    loader->compile_us = flagset_now_us() - begin_us;
    if (status != STATUS_OK)
        return status;
    contents->view_count = 1;
    status = trial != NULL ? weigh_faults(trial, contents) : STATUS_OK;
    if (status != STATUS_OK)
        return status;
    loader->warnings.count = 0;
    note_faults(&loader->builder, contents, false, &loader->warnings);
    flagset_builder_release(&loader->builder);
    status = flagset_views_build(loader, contents);
    contents->patches = flagset_patches_ref(loader->patches);
    return status == STATUS_OK ? patch_views(loader, &loader->builder, contents) : status;
}

static void take_snapshot(struct flagset_loader *loader, struct flagset_snapshot *snapshot)
{
    flagset_snapshot_unref(loader->snapshot);
    loader->snapshot = snapshot;
    loader->version = snapshot->version;
    loader->change = snapshot->change;
}

// ---- a trial ----

static bool begin_trial(struct trial *trial)
{
    struct flagset_loader *loader = trial->loader;
    for (uint32_t f = 0; f < loader->feed_count; f++) {
        struct flagset_feed *feed = &loader->feeds[f];
        for (uint32_t i = 0; i < feed->item_count; i++) {
            struct flagset_item *item = &feed->items[i];
            // One place is reserved for the overlay.
            if (trial->item_count == FLAGS_DOCUMENTS_MAX - 1) {
                char line[FLAGSET_PROBLEM_BYTES];
                (void)snprintf(line, sizeof line, "more than %d documents", FLAGS_DOCUMENTS_MAX - 1);
                add_message(&loader->errors, line);
                return false;
            }
            trial->items[trial->item_count] = item;
            trial->chosen[trial->item_count++] = item->newest;
        }
    }
    trial->segments = loader->segments;
    return true;
}

static struct flagset_document *trial_overlay(const struct trial *trial)
{
    if (trial->old_overlay)
        return trial->loader->overlay_good;
    return trial->reduced != NULL ? trial->reduced : trial->loader->overlay;
}

static struct flagset_contents *trial_contents(struct trial *trial)
{
    struct flagset_loader *loader = trial->loader;
    struct flagset_contents *contents = flagset_contents_create(loader->empty);
    if (contents == NULL)
        return NULL;
    for (uint32_t i = 0; i < trial->item_count; i++) {
        if (trial->chosen[i] == NULL)
            continue;
        trial->item_of[contents->document_count] = i;
        contents->documents[contents->document_count++] = flagset_document_ref(trial->chosen[i]);
    }
    contents->documents[contents->document_count++] = flagset_document_ref(trial_overlay(trial));
    contents->segments = flagset_document_ref(trial->segments);
    return contents;
}

static void replace(struct flagset_document **place, struct flagset_document *document)
{
    struct flagset_document *old = *place;
    *place = flagset_document_ref(document);
    flagset_document_unref(old);
}

static void keep_chosen(struct trial *trial)
{
    struct flagset_loader *loader = trial->loader;
    struct flagset_document *overlay = trial_overlay(trial);
    loader->overlay_refused = overlay != loader->overlay;
    loader->refused = trial->segments != loader->segments;
    for (uint32_t i = 0; i < trial->item_count; i++) {
        loader->refused |= trial->chosen[i] != trial->items[i]->newest;
        replace(&trial->items[i]->good, trial->chosen[i]);
        trial->items[i]->faulty = trial->faulty[i];
    }
    replace(&loader->overlay_good, overlay);
    replace(&loader->segments_good, trial->segments);
}

static enum status finish_snapshot(struct flagset_loader *loader, struct flagset_contents *contents,
                                   uint64_t change)
{
    struct flagset_snapshot *snapshot;
    enum status status =
        flagset_snapshot_create(contents, loader->version + 1, change, loader->reader_count, &snapshot);
    if (status == STATUS_OK)
        take_snapshot(loader, snapshot);
    return status;
}

// One compilation. STATUS_AGAIN: a document went back to its previous version.
static enum status try_once(struct trial *trial)
{
    struct flagset_loader *loader = trial->loader;
    struct flagset_contents *contents = trial_contents(trial);
    if (contents == NULL)
        return STATUS_NO_MEMORY;
    enum status status = compile_contents(loader, contents, trial);
    uint64_t change = loader->change;
    const struct flagset_document *overlay = trial_overlay(trial);
    if ((overlay == loader->overlay || overlay == trial->reduced) && loader->overlay_change > change)
        change = loader->overlay_change;
    if (status == STATUS_OK)
        status = finish_snapshot(loader, contents, change);
    if (status == STATUS_OK) {
        keep_chosen(trial);
        return STATUS_OK;
    }
    if (status == STATUS_INVALID) {
        note_faults(&loader->builder, contents, true, &loader->errors);
        if (blame(trial, contents) || fall_back(trial))
            status = STATUS_AGAIN;
    }
    flagset_builder_release(&loader->builder);
    flagset_contents_destroy(contents);
    return status;
}

void flagset_loader_build(struct flagset_loader *loader)
{
    struct trial trial = {.loader = loader};
    loader->errors.count = 0;
    loader->overlay_errors.count = 0;
    enum status status = begin_trial(&trial) ? STATUS_AGAIN : STATUS_FULL;
    while (status == STATUS_AGAIN) {
        status = try_once(&trial);
        // A kill must not wait until every bad file has had its turn.
        if (status == STATUS_AGAIN && loader->breathe != NULL)
            loader->breathe(loader->context);
    }
    flagset_document_unref(trial.reduced);
    if (status == STATUS_OK)
        return;
    loader->refused = true;
    if (status != STATUS_INVALID && status != STATUS_FULL)
        add_message(&loader->errors, "no memory to compile the flags");
    else if (status == STATUS_FULL && loader->errors.count == 0)
        add_message(&loader->errors, "the flags are too large to compile");
}

// ---- the overlay, over the sources in force ----

static struct flagset_contents *contents_again(const struct flagset_loader *loader,
                                               struct flagset_document *overlay)
{
    const struct flagset_contents *before = loader->snapshot->contents;
    struct flagset_contents *contents = flagset_contents_create(loader->empty);
    if (contents == NULL)
        return NULL;
    contents->document_count = before->document_count;
    for (uint32_t i = 0; i + 1 < before->document_count; i++)
        contents->documents[i] = flagset_document_ref(before->documents[i]);
    contents->documents[before->document_count - 1] = flagset_document_ref(overlay);
    contents->segments = flagset_document_ref(before->segments);
    return contents;
}

static enum status copy_views(const struct flagset_contents *before, struct flagset_contents *contents)
{
    for (uint32_t v = 0; v < before->view_count; v++) {
        struct flagset_stored_view *view = &contents->views[contents->view_count++];
        memcpy(view->members, before->views[v].members, sizeof view->members);
        view->overlay = flagset_document_ref(before->views[v].overlay);
        view->base = flagset_built_ref(before->views[v].base);
    }
    for (uint32_t s = 0; s < before->selector_count; s++) {
        struct flagset_selector *selector = &contents->selectors[contents->selector_count++];
        *selector = before->selectors[s];
        selector->name = heap_strdup(before->selectors[s].name);
        if (selector->name == NULL)
            return STATUS_NO_MEMORY;
    }
    contents->selectors_cut = before->selectors_cut;
    memcpy(contents->view_problem, before->view_problem, sizeof contents->view_problem);
    return STATUS_OK;
}

// The same images with other patches: one copy and checksum per image, however many rules there are.
enum status flagset_loader_patch(struct flagset_loader *loader, struct flagset_patches *patches,
                                 uint64_t change)
{
    const struct flagset_contents *before = loader->snapshot->contents;
    struct flagset_patches *old = loader->patches;
    loader->patches = flagset_patches_ref(patches);
    flagset_patches_unref(old);
    struct flagset_contents *contents = contents_again(loader, before->documents[before->document_count - 1]);
    if (contents == NULL)
        return STATUS_NO_MEMORY;
    contents->patches = flagset_patches_ref(patches);
    enum status status = copy_views(before, contents);
    if (status == STATUS_OK)
        status = patch_views(loader, &loader->patcher, contents);
    if (status == STATUS_OK)
        status = finish_snapshot(loader, contents, change);
    if (status != STATUS_OK)
        flagset_contents_destroy(contents);
    return status;
}

// One compilation. STATUS_AGAIN: *reduced is to be tried instead.
static enum status lay_over_once(struct flagset_loader *loader, struct flagset_document *overlay,
                                 uint64_t change, struct flagset_document **reduced)
{
    struct flagset_contents *contents = contents_again(loader, overlay);
    if (contents == NULL)
        return STATUS_NO_MEMORY;
    enum status status = compile_contents(loader, contents, NULL);
    if (status == STATUS_OK)
        status = finish_snapshot(loader, contents, change);
    if (status == STATUS_OK)
        return STATUS_OK;
    if (status == STATUS_INVALID) {
        note_faults(&loader->builder, contents, true, &loader->overlay_errors);
        *reduced = without_faults(loader, contents);
        status = *reduced != NULL ? STATUS_AGAIN : status;
    }
    flagset_builder_release(&loader->builder);
    flagset_contents_destroy(contents);
    return status;
}

static struct flagset_document *overlay_in_force(const struct flagset_loader *loader)
{
    const struct flagset_contents *contents = loader->snapshot->contents;
    return contents->documents[contents->document_count - 1];
}

// Whether the flags left out were already in the overlay before; then everything that was ordered now is in
// force.
static bool left_out_before(const struct flagset_document *whole, const struct flagset_document *reduced,
                            const struct flagset_document *before)
{
    for (uint32_t i = 0; i < whole->entry_count; i++) {
        char *buffer;
        struct slice key = flagset_document_key(whole, &whole->entries[i], &buffer);
        bool known =
            flagset_document_find(reduced, key) != NULL || flagset_document_find(before, key) != NULL;
        heap_free(buffer);
        if (!known)
            return false;
    }
    return true;
}

// Puts the overlay in force, or as much of it as compiles; overlay_in_force tells. before: the previous
// overlay.
static enum status lay_over(struct flagset_loader *loader, struct flagset_document *overlay,
                            const struct flagset_document *before, uint64_t change)
{
    bool same = overlay == overlay_in_force(loader);
    if (same)
        return flagset_loader_patch(loader, loader->patches, change);
    struct flagset_document *tried = flagset_document_ref(overlay);
    enum status status = STATUS_AGAIN;
    while (status == STATUS_AGAIN) {
        struct flagset_document *reduced = NULL;
        status = lay_over_once(loader, tried, change, &reduced);
        if (status == STATUS_AGAIN) {
            CHECK(tried != NULL && reduced != NULL);
            if (!left_out_before(tried, reduced, before))
                change = loader->change;
            flagset_document_unref(tried);
            tried = reduced;
        }
    }
    flagset_document_unref(tried);
    return status;
}

// The order's document; the previous one when the text is the same.
static enum status order_document(struct flagset_loader *loader, struct flagset_overlay_order *order,
                                  struct flagset_document **document)
{
    char *json = order->json;
    order->json = NULL;
    if (json == NULL && loader->text_lost)
        return STATUS_NO_MEMORY;
    if (json == NULL) {
        *document = flagset_document_ref(loader->overlay);
        return STATUS_OK;
    }
    loader->overlay_problem[0] = '\0';
    if (loader->overlay->len == order->len && memcmp(loader->overlay->json, json, order->len) == 0) {
        loader->text_lost = false;
        heap_free(json);
        *document = flagset_document_ref(loader->overlay);
        return STATUS_OK;
    }
    enum status status =
        flagset_document_create("runtime", "runtime", json, order->len, document, loader->overlay_problem);
    loader->text_lost = status == STATUS_NO_MEMORY;
    return status;
}

// Makes the overlay in force the newest one, so that a refused overlay is not tried again.
static void forget_newest(struct flagset_loader *loader)
{
    replace(&loader->overlay, loader->overlay_good);
    loader->overlay_change = loader->change;
}

void flagset_loader_overlay_first(struct flagset_loader *loader, struct flagset_overlay_order *order)
{
    struct flagset_document *document;
    loader->patches = flagset_patches_ref(order->patches);
    if (order_document(loader, order, &document) == STATUS_OK) {
        flagset_document_unref(loader->overlay);
        loader->overlay = document;
        loader->overlay_change = order->change;
    }
    flagset_overlay_order_destroy(order);
}

bool flagset_loader_overlay(struct flagset_loader *loader, struct flagset_overlay_order *order)
{
    struct flagset_document *document;
    bool new_text = false;
    flagset_patches_unref(loader->patches);
    loader->patches = flagset_patches_ref(order->patches);
    enum status status = order_document(loader, order, &document);
    if (status == STATUS_OK) {
        new_text = document != loader->overlay;
        struct flagset_document *before = loader->overlay;
        loader->overlay_change = order->change;
        loader->overlay = document;
        // A refused overlay is not compiled again only because of a patch: a kill must not wait for it.
        bool known = !new_text && loader->overlay_refused;
        if (!known)
            loader->overlay_errors.count = 0;
        status = lay_over(loader, known ? loader->overlay_good : document, before, order->change);
        flagset_document_unref(before);
        if (status == STATUS_OK)
            replace(&loader->overlay_good, overlay_in_force(loader));
    } else {
        forget_newest(loader);
    }
    loader->overlay_refused = status != STATUS_OK || loader->overlay != loader->overlay_good;
    // The new overlay was refused; its patches still have to be put in force.
    if (status != STATUS_OK)
        status = lay_over(loader, loader->overlay_good, loader->overlay, loader->change);
    if (status != STATUS_OK)
        add_message(&loader->overlay_errors, "no memory for what was changed at runtime");
    flagset_overlay_order_destroy(order);
    return new_text && loader->refused;
}
