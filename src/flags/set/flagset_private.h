// SPDX-License-Identifier: Apache-2.0
// What the parts of the module share. Documents, images, patches and contents are immutable once made, and
// counted by reference. Sources belong to the loader thread alone. Everything that crosses threads is in
// struct flagset, under its lock.
#pragma once

#include <pthread.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/json_out.h"
#include "flags/set/flagset.h"
#include "flags/share/share.h"

enum {
    FLAGSET_QUIET_MS = 10,     // wait after the last sign of a change before a file is read
    FLAGSET_QUIET_MS_MAX = 50, // the longest such wait after the first sign
    FLAGSET_SETTLE_MS = 25,  // a file that changed so recently may change again within one tick of its clock
    FLAGSET_LOOK_MS = 500,   // how often files are looked at although inotify works
    FLAGSET_START_MS = 3000, // flagset_create waits at most so long for sources over HTTP
    FLAGSET_RETRY_MS = 1000, // after the first failed fetch; doubled up to:
    FLAGSET_RETRY_MS_MAX = 60000,
    FLAGSET_EVERY_MS = 30000,
    FLAGSET_REDIRECTS_MAX = 3,
    FLAGSET_FINDINGS_MAX = 1024,   // findings of one compilation that are looked at
    FLAGSET_APART_BYTES = 1 << 20, // larger sources are compiled in a thread of their own
    FLAGSET_DOCUMENT_WORDS = FLAGS_DOCUMENTS_MAX / 64,
};
#define FLAGSET_NO_DOCUMENT UINT32_MAX

// ---- document.c ----

// Where a flag stands in its document; the key as it is written, without quotes.
struct flagset_entry {
    uint32_t key_at;
    uint32_t key_len;
    uint32_t value_at;
    uint32_t value_len;
};

struct flagset_document {
    _Atomic uint32_t references;
    char *name;   // for people, also in problems
    char *source; // the name by which selectors choose it
    char *json;
    size_t len;
    char *set_id;            // metadata's flagSetId, or NULL
    bool list;               // flags are in the array form
    struct slice metadata;   // of json, or empty
    struct slice evaluators; // the same
    struct slice settings;   // the same: "x-sluice"
    uint32_t entry_count;
    uint32_t slot_mask;
    struct flagset_entry *entries;
    uint32_t *slots; // entry + 1 by hash of the key; 0: free
};

// Takes json (heap) in every case. STATUS_INVALID with a problem "name:line:column: ..." when it is not JSON.
MUST_USE enum status flagset_document_create(const char *name, const char *source, char *json, size_t len,
                                             struct flagset_document **document, char *problem);
struct flagset_document *flagset_document_ref(struct flagset_document *document);
void flagset_document_unref(struct flagset_document *document); // NULL is allowed
const struct flagset_entry *flagset_document_find(const struct flagset_document *document, struct slice key);
struct slice flagset_document_value(const struct flagset_document *document,
                                    const struct flagset_entry *entry);
// The unescaped key; when it has escapes, it lies in *buffer (heap, the caller frees). Empty when memory is
// short.
struct slice flagset_document_key(const struct flagset_document *document, const struct flagset_entry *entry,
                                  char **buffer);

// ---- patches.c ----

struct flagset_patches {
    _Atomic uint32_t references;
    uint32_t count;
    struct flags_patch *patches;
    char *text; // the slices of the patches borrow from it
};
MUST_USE enum status flagset_patches_create(const struct flags_patch *patches, uint32_t count,
                                            struct flagset_patches **copy);
struct flagset_patches *flagset_patches_ref(struct flagset_patches *patches);
void flagset_patches_unref(struct flagset_patches *patches); // NULL is allowed
// NULL when the key has none.
const struct flags_patch *flagset_patches_find(const struct flagset_patches *patches, struct slice key);

// ---- build.c ----

struct flagset_built {
    _Atomic uint32_t references;
    void *data;
    struct flags_image set;
    struct flagset_times *times; // NULL: none
};
void flagset_built_unref(struct flagset_built *image); // NULL is allowed
struct flagset_built *flagset_built_ref(struct flagset_built *image);

// The scratch of compilations, for one thread at a time.
struct flagset_builder {
    struct flags_json_space space;
    struct flags_finding findings[FLAGSET_FINDINGS_MAX];
    size_t finding_count; // stored findings of the last compilation
    void *borrowed;       // heap: names in findings point into it
};
// Forgets the findings and frees what they borrow.
void flagset_builder_release(struct flagset_builder *builder);
void flagset_builder_deinit(struct flagset_builder *builder);
// Compiles without patches. Scratch and image grow as needed. STATUS_INVALID: the findings say why.
MUST_USE enum status flagset_build(struct flagset_builder *builder, const struct flags_bundle *bundle,
                                   struct flagset_built **image);
// The base with patches; without any patches, the base itself with one more reference.
MUST_USE enum status flagset_build_patched(struct flagset_builder *builder, struct flagset_built *base,
                                           const struct flagset_patches *patches,
                                           struct flagset_built **image);
void flagset_finding_text(const struct flags_finding *fault, const char *document, char *problem);

// ---- snapshot.c ----

struct flagset_stored_view {
    uint64_t members[FLAGSET_DOCUMENT_WORDS]; // bit i: document i
    struct flagset_document *overlay;         // the part of the overlay that belongs to it; NULL: none
    struct flagset_built *base;               // without patches
    struct flagset_built *image;              // in force
};

struct flagset_selector {
    char *name; // "source=..." or "flagSetId=..."
    uint64_t members[FLAGSET_DOCUMENT_WORDS];
    uint32_t view;
};

// All that a snapshot is made of. The overlay is the last document.
struct flagset_contents {
    struct flagset_document *documents[FLAGS_DOCUMENTS_MAX];
    uint32_t document_count;
    struct flagset_document *segments; // NULL: none
    struct flagset_patches *patches;
    struct flagset_stored_view views[1 + FLAGSET_SELECTORS_MAX];
    uint32_t view_count; // the first view is the whole set
    struct flagset_selector selectors[FLAGSET_SELECTORS_MAX];
    uint32_t selector_count;
    bool selectors_cut;                       // there were more
    char view_problem[FLAGSET_PROBLEM_BYTES]; // a flag that only a selector breaks, or empty
    struct flagset_built *empty;
};
// Takes contents (heap) when STATUS_OK.
MUST_USE enum status flagset_snapshot_create(struct flagset_contents *contents, uint64_t version,
                                             uint64_t change, uint32_t reader_count,
                                             struct flagset_snapshot **snapshot);
void flagset_contents_destroy(struct flagset_contents *contents);
struct flagset_contents *flagset_contents_create(struct flagset_built *empty);
// documents: storage for FLAGS_DOCUMENTS_MAX.
struct flags_bundle flagset_contents_bundle(const struct flagset_contents *contents,
                                            struct flags_bundle_document *documents);

// ---- selector.c ----

// Fills in the bases of the views from the second on. A base is compiled when it differs from the whole set,
// or taken over from the snapshot in force when nothing in it changed. The first view must be there.
struct flagset_loader;
MUST_USE enum status flagset_views_build(struct flagset_loader *loader, struct flagset_contents *contents);
// The documents of a view, in the order and with the numbers of its image; storage for FLAGS_DOCUMENTS_MAX.
uint32_t flagset_view_documents(const struct flagset_contents *contents, uint32_t index,
                                const struct flagset_document **documents);
// Index of the view, or UINT32_MAX.
uint32_t flagset_selector_find(const struct flagset_contents *contents, struct slice selector);

// ---- source.c: files and directories ----

struct flagset_signature {
    uint64_t device, inode, size;
    int64_t modified_ns, changed_ns;
};

// One document of a source.
struct flagset_item {
    char *path;
    struct flagset_signature seen;
    bool unsettled; // read so soon after a change that a further one might not show
    struct flagset_document *newest;
    struct flagset_document *good;       // in force
    bool faulty;                         // that one has rules that cannot be evaluated
    bool seen_here;                      // seen while the directory is listed
    char problem[FLAGSET_PROBLEM_BYTES]; // why it could not be read
};

struct flagset_feed { // a source, as the loader keeps it
    enum flagset_source_kind kind;
    char name[FLAGSET_NAME_BYTES];
    uint64_t every_ms;
    char *token_file;
    struct flagset_item *items;
    uint32_t item_count;
    int64_t read_ms;
    char problem[FLAGSET_PROBLEM_BYTES];
    bool watched;      // inotify reports changes of it
    bool gone;         // the file is not there
    uint64_t first_us; // of the first sign of a change since the last look; 0: none
    uint64_t due_us;   // when to look at it
};
void flagset_feed_deinit(struct flagset_feed *feed);
MUST_USE enum status flagset_feed_init(struct flagset_feed *feed, const struct flagset_source *source);
enum { FLAGSET_NEW_CONTENT = 1, FLAGSET_NEW_MESSAGES = 2 }; // to compile; only to tell
// Reads what changed. Returns bits of FLAGSET_NEW_*.
unsigned flagset_feed_look(struct flagset_feed *feed, uint64_t now_us);
// Takes new content (json) of a source that is not a file.
unsigned flagset_feed_take(struct flagset_feed *feed, char *json, size_t len);
uint64_t flagset_now_us(void);
int64_t flagset_wall_ms(void);

// ---- watch.c ----

struct flagset_watch;
struct flagset_watch *flagset_watch_open(void); // NULL: not to be had
void flagset_watch_close(struct flagset_watch *watch);
int flagset_watch_fd(const struct flagset_watch *watch);
// Watches the files that the feed of this index reads; call it again after each look. False: not possible.
bool flagset_watch_feed(struct flagset_watch *watch, const struct flagset_feed *feed, uint32_t index);
void flagset_watch_forget(struct flagset_watch *watch);
// The feeds for which a change was signalled, as bits.
uint64_t flagset_watch_drain(struct flagset_watch *watch);

// ---- fetch.c ----

struct flagset_fetcher;
struct flagset_fetched { // the result of one fetch
    struct flagset_fetched *next;
    char url[FLAGSET_NAME_BYTES];
    char *json; // heap; NULL: unchanged, or failed
    size_t len;
    char problem[FLAGSET_PROBLEM_BYTES]; // failed when not empty
};
// wake_fd: an eventfd written to when something was fetched.
MUST_USE enum status flagset_fetcher_create(int wake_fd, struct flagset_fetcher **fetcher);
void flagset_fetcher_destroy(struct flagset_fetcher *fetcher); // NULL is allowed
// Sets what to fetch from now on. Addresses that were fetched before keep their entity tags.
MUST_USE enum status flagset_fetcher_set(struct flagset_fetcher *fetcher, const struct flagset_feed *feeds,
                                         uint32_t count);
// Waits until each address was tried once, but not longer than this.
void flagset_fetcher_wait(struct flagset_fetcher *fetcher, uint32_t ms);
// Results in order of arrival; the caller frees them.
struct flagset_fetched *flagset_fetcher_take(struct flagset_fetcher *fetcher);

// ---- loader.c ----

// What the loader tells the owner.
struct flagset_report {
    const struct flagset_snapshot *snapshot; // in force; a reference. NULL: none yet
    struct flagset_source_state *states;
    uint32_t state_count;
    struct fault problems[FLAGSET_PROBLEMS_MAX];
    uint32_t problem_count;
    bool refused;
    bool silent; // nobody needs to be told of it
    uint64_t compile_us;
};
void flagset_report_destroy(struct flagset_report *report); // NULL is allowed

struct flagset_overlay_order {
    char *json; // NULL: the text stays
    size_t len;
    struct flagset_patches *patches;
    uint64_t change;
    bool patched; // its patches are in force already
};
void flagset_overlay_order_destroy(struct flagset_overlay_order *order);

struct flagset_reconfigure_order {
    struct flagset_feed *feeds; // not yet read
    uint32_t feed_count;
    char *segments;
    size_t segments_len;
};
void flagset_reconfigure_order_destroy(struct flagset_reconfigure_order *order);

// Messages for people, without duplicates.
struct flagset_messages {
    char lines[FLAGSET_PROBLEMS_MAX][FLAGSET_PROBLEM_BYTES];
    uint32_t count;
};

// The state of the loader thread (before it runs: of flagset_create). "Newest" is what was read last, "good"
// is what is in force; they differ while something is refused.
struct flagset_loader {
    uint32_t reader_count;
    struct flagset_feed *feeds;
    uint32_t feed_count;
    struct flagset_watch *watch; // NULL: files are only looked at from time to time
    struct flagset_fetcher *fetcher;
    int wake_fd;
    struct flagset_builder builder;
    char *share_directory;
    struct share_writer *share;
    uint64_t shared_version;
    char share_problem[FLAGSET_PROBLEM_BYTES];
    // Called while something large is compiled and the thread was woken, so that a kill switch need not wait.
    void (*breathe)(void *context);
    void *context;
    bool woken;                     // while something is compiled: there may be orders
    struct flagset_builder patcher; // for patches during a compilation

    struct flagset_document *overlay; // newest; never NULL
    struct flagset_document *overlay_good;
    struct flagset_patches *patches;
    uint64_t overlay_change;                     // of the newest
    uint64_t change;                             // of the one in force
    char overlay_problem[FLAGSET_PROBLEM_BYTES]; // why it is not JSON
    struct flagset_document *segments;           // newest; NULL: none
    struct flagset_document *segments_good;
    char segments_problem[FLAGSET_PROBLEM_BYTES]; // why they are not JSON

    const struct flagset_snapshot *snapshot; // in force; a reference
    struct flagset_built *empty;
    uint64_t version;
    uint64_t compile_us;
    bool refused;         // the last trial refused a source or the segments
    bool overlay_refused; // the newest overlay was refused
    // No memory for the newest text: the texts that orders leave out are no longer the newest. Read by
    // others.
    _Atomic bool text_lost;
    struct flagset_messages errors;         // of what was refused
    struct flagset_messages overlay_errors; // the same, of the overlay
    struct flagset_messages warnings;       // of what is in force
    struct flagset_messages patch_warnings; // the same
    uint64_t told;                          // hash of the messages of the last report
    uint64_t told_version;
};

MUST_USE enum status flagset_loader_init(struct flagset_loader *loader, const struct flagset_config *config,
                                         int wake_fd);
void flagset_loader_deinit(struct flagset_loader *loader);
// Takes the order.
void flagset_loader_reconfigure(struct flagset_loader *loader, struct flagset_reconfigure_order *order);
// Looks at the files that are due (`all`: at every file) and takes what was fetched. Returns bits of
// FLAGSET_NEW_*.
unsigned flagset_loader_look(struct flagset_loader *loader, bool all);
uint64_t flagset_loader_due_us(const struct flagset_loader *loader);
struct flagset_report *flagset_loader_report(struct flagset_loader *loader); // NULL: no memory
// Publishes the newest snapshot to other processes. True when the owner must be told about it.
bool flagset_loader_share(struct flagset_loader *loader);

// ---- trial.c ----

// Compiles the newest version of everything. A document with errors is left out; its previous version stays.
void flagset_loader_build(struct flagset_loader *loader);
// Puts patches over the snapshot in force. Works also while something else is compiled.
MUST_USE enum status flagset_loader_patch(struct flagset_loader *loader, struct flagset_patches *patches,
                                          uint64_t change);
// As flagset_build with the loader's builder, in a thread of its own when the compilation may take long.
MUST_USE enum status flagset_loader_build_bundle(struct flagset_loader *loader,
                                                 const struct flags_bundle *bundle,
                                                 struct flagset_built **image);
// Takes the order: puts the overlay over the sources in force and tries nothing else. True when something
// that was refused should be tried again, because the overlay may have changed that.
bool flagset_loader_overlay(struct flagset_loader *loader, struct flagset_overlay_order *order);
// Takes the order before anything was compiled, so that the first compilation has it.
void flagset_loader_overlay_first(struct flagset_loader *loader, struct flagset_overlay_order *order);

// ---- check_flag.c ----

struct flagset_tree {
    struct flags_json_space space; // heap
    struct flags_json *root;
};
// Free the tree in every case, also after a failure.
MUST_USE enum status flagset_tree_parse(struct slice json, struct flagset_tree *tree,
                                        struct flags_json_error *fault);
void flagset_tree_free(struct flagset_tree *tree);

// ---- flagset.c ----

struct flagset_delivery;
struct flagset {
    struct flagset_config config; // only loop, changed and context are kept
    struct flagset_loader loader;
    pthread_t thread;
    bool running;
    // The owner's thread only.
    const struct flagset_snapshot *current;
    const struct flagset_snapshot *retired; // the previous one, for those who borrowed it in this turn
    struct io_timer release;
    struct flagset_report *report;
    struct flagset_document *newest; // the newest overlay until it is in force; NULL: it is in force
    uint64_t newest_change;
    // Shared by both threads, under the lock.
    pthread_mutex_t lock;
    struct flagset_overlay_order *overlay_order;         // newest, not yet taken
    struct flagset_reconfigure_order *reconfigure_order; // the same
    struct flagset_report *ready;                        // newest, not yet taken by the owner
    struct flagset_delivery *delivery;
    bool stop;
};
