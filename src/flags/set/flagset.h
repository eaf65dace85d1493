// SPDX-License-Identifier: Apache-2.0
// Flag sets in force: sources (files, directories, addresses, what control lays over them) are read and
// compiled by one thread of their own, and become immutable snapshots. A bad update is refused whole: the
// last good snapshot stays, and the fault is told with document, line and column.
//
// Threads: flagset_* functions are for one thread, the owner of the loop given (control). Snapshots may be
// referenced, read and released on any thread.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

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
    FLAGSET_PROBLEM_BYTES = 400,
    FLAGSET_POLL_MS = 50,        // how often files are looked at when inotify tells nothing
    FLAGSET_HTTP_MS_MAX = 10000, // one fetch
};

enum flagset_source_kind { FLAGSET_FILE, FLAGSET_DIRECTORY, FLAGSET_HTTP, FLAGSET_INLINE };

struct flagset_source {
    enum flagset_source_kind kind;
    const char *name;       // path, URL, or for INLINE what problems call it; borrowed for the call
    struct slice json;      // INLINE: the document; borrowed for the call
    uint64_t every_ms;      // HTTP: between polls (If-None-Match), 0: 30 s
    const char *token_file; // HTTP: file whose first line is sent as a bearer token; NULL: none
};

struct flagset;
struct flagset_snapshot;

// ---- snapshots ----

// A view by a selector: "flagSetId=x" (all documents whose metadata has that flagSetId, merged; "flagSetId=":
// those without) or "source=name". A selector without '=' is a source, as in flagd; several joined by commas
// mean what all of them select. A flag set at runtime is in a view when one of its documents has that flag or
// its own metadata has the flagSetId; patches reach every view.
struct flagset_view {
    struct flags_image set;            // empty image when nothing matched
    uint64_t tag;                      // of its content: changes when the view changes; never 0
    uint32_t index;                    // 0: the whole set, whose counters the tallies count
    const struct flagset_times *times; // NULL: no flag has a schedule
};

// When schedules of a view begin and end: Unix seconds, ascending, each once.
struct flagset_times {
    _Atomic uint32_t references; // private
    uint32_t count;
    int64_t at[];
};

// The newest of them that is not after now_s: while it stays the same, time alone has changed nothing.
// INT64_MIN: none yet.
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
    uint64_t change;    // newest overlay change in it (flagset_overlay)
    int64_t changed_ms; // wall clock
    uint32_t reader_count;
    struct flags_tally *tallies;       // [reader_count], each for one thread
    struct flagset_contents *contents; // private
};

const struct flagset_snapshot *flagset_snapshot_ref(const struct flagset_snapshot *snapshot);
void flagset_snapshot_unref(const struct flagset_snapshot *snapshot); // NULL is allowed
// The view of a selector; empty selector: all. False, with an empty view, when nothing matches it.
bool flagset_snapshot_view(const struct flagset_snapshot *snapshot, struct slice selector,
                           struct flagset_view *view);
// The definition of a flag as its document writes it (before patches) and that document's name. False: none.
bool flagset_snapshot_definition(const struct flagset_snapshot *snapshot, struct slice key,
                                 struct slice *json, const char **document);
// Whether a rollout's patch splits the flag in this snapshot, and by what share of FLAGS_SHARE_TOTAL. False
// also where the patch changed nothing because the flag or a variant is not there.
bool flagset_snapshot_split(const struct flagset_snapshot *snapshot, struct slice key, uint32_t *share);
uint32_t flagset_snapshot_document_count(const struct flagset_snapshot *snapshot);
bool flagset_snapshot_document(const struct flagset_snapshot *snapshot, uint32_t i, const char **name,
                               struct slice *json);
// One flagd file that says the same, patches included where the format can: heap text, the caller's. Names of
// "$evaluators" that mean different things in two documents get their document's number as a suffix; segments
// become "$evaluators"; the split of a rollout is left out. STATUS_CONFLICT: documents choose different
// generations of fractional, which one file cannot say.
MUST_USE enum status flagset_snapshot_export(const struct flagset_snapshot *snapshot, char **json,
                                             size_t *len);
// The same of the view of a selector: what flagset_snapshot_view shows and nothing else; of the segments
// those that its rules use. No flags when nothing matches the selector. Empty selector: the whole.
MUST_USE enum status flagset_snapshot_export_view(const struct flagset_snapshot *snapshot,
                                                  struct slice selector, char **json, size_t *len);

// ---- the set ----

struct flagset_problem {
    char text[FLAGSET_PROBLEM_BYTES]; // "flags.json:12:7: ..." for people
    bool error;                       // else a warning
};

// One source as it stands.
struct flagset_source_state {
    char name[FLAGSET_NAME_BYTES];
    enum flagset_source_kind kind;
    bool good;                           // its newest content is in force
    int64_t read_ms;                     // when it was last read with success; 0: never
    uint64_t flag_count;                 // in the content in force
    char problem[FLAGSET_PROBLEM_BYTES]; // why not good
};

struct flagset_config {
    struct io_loop *loop;                 // where `changed` is called
    const struct flagset_source *sources; // later override earlier; borrowed for the call
    uint32_t source_count;
    struct slice segments; // JSON object of rules; borrowed for the call
    uint32_t reader_count; // tallies per snapshot
    const char *share;     // directory for libsluice-flags, or NULL
    // What lies over the sources from the start, as flagset_overlay says: the first snapshot has it, so that
    // what was killed is never seen alive, not even for a moment. A faulty text is refused and told; it fails
    // nothing. Borrowed for the call.
    struct slice overlay;
    const struct flags_patch *patches;
    uint32_t patch_count;
    uint64_t change;
    // A new snapshot is in force (borrowed: reference it to keep it), or NULL: the problems or sources
    // changed.
    void (*changed)(void *context, const struct flagset_snapshot *snapshot);
    void *context;
};

// Reads every source once before it returns, so that a start with a broken file fails: STATUS_INVALID with
// problems. A source over HTTP that does not answer is no failure: it is tried again, and said in its state.
MUST_USE enum status flagset_create(const struct flagset_config *config, struct flagset **set,
                                    struct flagset_problem *problems, uint32_t *problem_count);
void flagset_destroy(struct flagset *set);
// Other sources and segments (a new file was loaded). Read and compiled by the thread; the overlay stays.
void flagset_reconfigure(struct flagset *set, const struct flagset_source *sources, uint32_t source_count,
                         struct slice segments);
// The last source of all: flags set at runtime, and patches. Copied. `change` comes back in the snapshot that
// holds it. A patch-only change must not wait for a slow source.
MUST_USE enum status flagset_overlay(struct flagset *set, struct slice json,
                                     const struct flags_patch *patches, uint32_t patch_count,
                                     uint64_t change);
// The snapshot in force, borrowed until the next turn of the loop. Never NULL after create.
const struct flagset_snapshot *flagset_current(const struct flagset *set);
uint32_t flagset_source_count(const struct flagset *set);
void flagset_source_get(const struct flagset *set, uint32_t i, struct flagset_source_state *state);
// Problems of the newest compilation, refused or in force (warnings).
uint32_t flagset_problems(const struct flagset *set, const struct flagset_problem **problems);
bool flagset_refused(const struct flagset *set);      // the newest content is not in force
uint64_t flagset_build_us(const struct flagset *set); // what the newest compilation took

// Compiles one flag (a key and its definition) as it would stand in the overlay, beside what is in force, and
// says what is wrong: STATUS_INVALID with problem "line:column: ...". For the API, before a change is kept.
// STATUS_OK with a problem that is no error: a warning (a rule that cannot be evaluated). Else problem->text
// is empty. Flags in force, or laid over and on their way, that have this one as a prerequisite are checked
// too.
MUST_USE enum status flagset_check_flag(const struct flagset *set, struct slice key, struct slice definition,
                                        struct flagset_problem *problem);
// The same of several at once, which may be each other's prerequisites: flags is the text of an object of
// keys and definitions, and problems name the flag.
MUST_USE enum status flagset_check_flags(const struct flagset *set, struct slice flags,
                                         struct flagset_problem *problem);
