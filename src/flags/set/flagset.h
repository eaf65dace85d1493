// SPDX-License-Identifier: Apache-2.0
// Flag sets in force. A thread reads and compiles the sources (files, directories, addresses, and the overlay
// of changes made at runtime) into immutable snapshots. An update with an error is refused as a whole: the
// last good snapshot stays in force, and the error is reported with document, line and column.
//
// Threads: flagset_* functions are for one thread, the one whose loop is given (the engine's). Any thread may
// reference, read and release snapshots.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/slice.h"
#include "base/status.h"
#include "base/text.h"
#include "flags/eval/evaluate.h"
#include "flags/eval/image.h"
#include "flags/eval/tally.h"
#include "net/io/loop.h"

enum {
    FLAGSET_SOURCES_MAX = 64,
    FLAGSET_NAME_BYTES = 1024,            // path or address of a source, the NUL included
    FLAGSET_SOURCE_BYTES_MAX = 256 << 20, // one document; larger is refused
    FLAGSET_DIRECTORY_FILES_MAX = 200,    // *.json of one directory, in name order
    FLAGSET_SELECTORS_MAX = 64,           // flagSetIds and sources that can be selected
    FLAGSET_SELECTOR_BYTES = 256,
    FLAGSET_READERS_MAX = 80, // threads that count evaluations
    FLAGSET_PROBLEMS_MAX = 16,
    FLAGSET_PROBLEM_BYTES = 400, // of its text
    FLAGSET_POLL_MS = 50,        // how often files are looked at when inotify does not report changes
    FLAGSET_HTTP_MS_MAX = 10000, // one fetch
};

enum flagset_source_kind { FLAGSET_FILE, FLAGSET_DIRECTORY, FLAGSET_HTTP, FLAGSET_INLINE };

struct flagset_source {
    enum flagset_source_kind kind;
    const char *name;       // path, URL, or for INLINE its name in problems; borrowed for the call
    struct slice json;      // INLINE: the document; borrowed for the call
    uint64_t every_ms;      // HTTP: between polls (If-None-Match), 0: 30 s
    const char *token_file; // HTTP: file whose first line is sent as a bearer token; NULL: none
};

struct flagset;
struct flagset_snapshot;

// ---- snapshots ----

// The view that a selector gives: "flagSetId=x" (the merged documents whose metadata has that flagSetId;
// "flagSetId=": those without one) or "source=name". A selector without '=' is a source, as in flagd; several
// joined by commas mean the documents that all of them select. A flag set at runtime is in a view when one of
// the view's documents has that flag, or when its own metadata has the flagSetId. Patches apply to every
// view.
struct flagset_view {
    struct flags_image set;            // empty image when nothing matched
    uint64_t tag;                      // of the content: changes when the view changes; never 0
    uint32_t index;                    // 0: the whole set, whose counters the tallies count
    const struct flagset_times *times; // NULL: no flag has a schedule
};

// When the schedules of a view begin and end: Unix seconds, ascending, no duplicates.
struct flagset_times {
    _Atomic uint32_t references; // private
    uint32_t count;
    int64_t at[];
};

// The latest of these times that is not after now_s; INT64_MIN: none. While it stays the same, no schedule
// has begun or ended.
static inline int64_t flagset_view_turned_s(const struct flagset_view *view, int64_t now_s)
{
    uint32_t low = 0;
    uint32_t high = view->times != NULL ? view->times->count : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (view->times->at[middle] <= now_s)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? view->times->at[low - 1] : INT64_MIN;
}

struct flagset_snapshot {
    _Atomic uint32_t references;
    struct flagset_view all;
    uint64_t version;   // grows with every snapshot, from 1
    uint64_t change;    // the newest change of the overlay in it (flagset_overlay)
    int64_t changed_ms; // wall clock
    uint32_t reader_count;
    struct flags_tally *tallies;       // [reader_count], each for one thread
    struct flagset_contents *contents; // private
};

const struct flagset_snapshot *flagset_snapshot_ref(const struct flagset_snapshot *snapshot);
void flagset_snapshot_unref(const struct flagset_snapshot *snapshot); // NULL is allowed
// The view of a selector; an empty selector gives the whole set. False, with an empty view, when nothing
// matches.
bool flagset_snapshot_view(const struct flagset_snapshot *snapshot, struct slice selector,
                           struct flagset_view *view);
// The selectors there are, and their views: false when there are not so many.
bool flagset_snapshot_selector(const struct flagset_snapshot *snapshot, uint32_t i, const char **selector,
                               struct flagset_view *view);
// The definition of a flag as its document has it (before patches), and that document's name. False: no such
// flag.
bool flagset_snapshot_definition(const struct flagset_snapshot *snapshot, struct slice key,
                                 struct slice *json, const char **document);
// Whether a rollout's patch splits the flag in this snapshot, and by what share of FLAGS_SHARE_TOTAL. False
// also when the patch changed nothing, because the flag or a variant does not exist.
bool flagset_snapshot_split(const struct flagset_snapshot *snapshot, struct slice key, uint32_t *share);
// Documents count from 0; the last one holds what is set at runtime.
bool flagset_snapshot_document(const struct flagset_snapshot *snapshot, uint32_t i, const char **name,
                               struct slice *json);
// Writes one flagd file with the same meaning, patches included where the format can express them, as heap
// text that the caller frees. Names of "$evaluators" that mean different things in two documents get the
// document's number as a suffix; segments become "$evaluators"; the split of a rollout is left out.
// STATUS_CONFLICT: documents choose different generations of fractional, which one file cannot express.
MUST_USE enum status flagset_snapshot_export(const struct flagset_snapshot *snapshot, char **json,
                                             size_t *len);
// The same for the view of a selector: only what flagset_snapshot_view shows, and only the segments that its
// rules use. No flags when nothing matches the selector. An empty selector gives the whole set.
MUST_USE enum status flagset_snapshot_export_view(const struct flagset_snapshot *snapshot,
                                                  struct slice selector, char **json, size_t *len);

// ---- the set ----

// One source as it stands.
struct flagset_source_state {
    char name[FLAGSET_NAME_BYTES];
    enum flagset_source_kind kind;
    bool good;                           // the newest content of the source is in force
    int64_t read_ms;                     // when it was last read with success; 0: never
    uint64_t flag_count;                 // in the content in force
    char problem[FLAGSET_PROBLEM_BYTES]; // why it is not good
};

struct flagset_config {
    struct io_loop *loop;                 // where `changed` is called
    const struct flagset_source *sources; // later sources override earlier ones; borrowed for the call
    uint32_t source_count;
    struct slice segments; // JSON object of rules; borrowed for the call
    uint32_t reader_count; // tallies per snapshot
    const char *share;     // directory for libsluice-flags, or NULL
    // The overlay in force from the start (see flagset_overlay): the first snapshot already has it, so that a
    // killed flag is never seen alive, not even for a moment. A text with errors is refused and reported, but
    // does not make the start fail. Borrowed for the call.
    struct slice overlay;
    const struct flags_patch *patches;
    uint32_t patch_count;
    uint64_t change;
    // Called with the new snapshot that is in force (borrowed: reference it to keep it), or with NULL when
    // only problems or sources changed.
    void (*changed)(void *context, const struct flagset_snapshot *snapshot);
    void *context;
};

// A problem is a fault with the text "flags.json:12:7: ..."; its status is STATUS_INVALID for an error and
// STATUS_OK for a warning.
//
// Reads every source once before it returns, so that a start with a broken file fails: STATUS_INVALID with
// problems. A source over HTTP that does not answer is not a failure: it is tried again, and its state says
// so.
MUST_USE enum status flagset_create(const struct flagset_config *config, struct flagset **set,
                                    struct fault *problems, uint32_t *problem_count);
void flagset_destroy(struct flagset *set);
// Takes new sources and segments (a new configuration was loaded). The thread reads and compiles them; the
// overlay stays.
void flagset_reconfigure(struct flagset *set, const struct flagset_source *sources, uint32_t source_count,
                         struct slice segments);
// Sets the overlay, which comes after all sources: flags set at runtime, and patches. Copies both. The first
// snapshot that has them carries `change`. A change of patches only does not wait for a slow source: with
// json.data NULL the text laid over before stays, and is neither read nor compared again.
MUST_USE enum status flagset_overlay(struct flagset *set, struct slice json,
                                     const struct flags_patch *patches, uint32_t patch_count,
                                     uint64_t change);
// The snapshot in force, borrowed until the next turn of the loop. Never NULL after create.
const struct flagset_snapshot *flagset_current(const struct flagset *set);
uint32_t flagset_source_count(const struct flagset *set);
void flagset_source_get(const struct flagset *set, uint32_t i, struct flagset_source_state *state);
// Problems of the newest compilation: why it was refused, or warnings when it is in force.
uint32_t flagset_problems(const struct flagset *set, const struct fault **problems);
// No memory was left for the newest text of the overlay: give it again, although it did not change.
bool flagset_overlay_lost(const struct flagset *set);
bool flagset_refused(const struct flagset *set);      // the newest content is not in force
uint64_t flagset_build_us(const struct flagset *set); // how long the newest compilation took

// Compiles one flag (a key and its definition) as if it stood in the overlay, beside the set in force, and
// reports errors: STATUS_INVALID with problem "line:column: ...". The API asks this before it keeps a change.
// A rule that cannot be evaluated is an error here. STATUS_OK with a problem: a warning; else problem->text
// is empty. Also checks the flags that have this one as a prerequisite, in force or in an overlay that is not
// in force yet.
MUST_USE enum status flagset_check_flag(const struct flagset *set, struct slice key, struct slice definition,
                                        struct fault *problem);
// The same for several flags at once, which may be each other's prerequisites. `flags` is the text of an
// object of keys and definitions; problems name the flag.
MUST_USE enum status flagset_check_flags(const struct flagset *set, struct slice flags,
                                         struct fault *problem);
