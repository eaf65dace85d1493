// SPDX-License-Identifier: Apache-2.0
// Counts the use of flags. The counters of a snapshot only grow, and each gather adds what they grew by.
// Flags are matched by key when a snapshot is first seen, so a flag keeps its history through any change of
// the set.
#include "flags/set/usage_private.h"

#include <limits.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"

enum {
    ENTRIES_FIRST = 64,
    PLAN_IDLE_MS = 10000, // a replaced snapshot not gathered for so long is forgotten
    SAVE_EVERY_MS = 60000,
};

static const int64_t STALE_MS = (int64_t)USAGE_STALE_DAYS * 24 * 60 * 60 * 1000;
static const uint32_t NOWHERE = UINT32_MAX;

// ---- the table ----

static uint64_t hash_of(struct slice key)
{
    return siphash((struct siphash_key){0x736c756963650001, 0x7573616765000002}, key.data, key.len);
}

static uint32_t find(const struct usage *usage, struct slice key, uint64_t hash)
{
    if (usage->table_cap == 0)
        return NOWHERE;
    for (uint32_t at = (uint32_t)hash & (usage->table_cap - 1); usage->table[at] != 0;
         at = (at + 1) & (usage->table_cap - 1)) {
        const struct usage_entry *entry = &usage->entries[usage->table[at] - 1];
        if (entry->hash == hash && slice_equal((struct slice){entry->key, entry->key_len}, key))
            return usage->table[at] - 1;
    }
    return NOWHERE;
}

uint32_t usage_entry_find(const struct usage *usage, struct slice key)
{
    return find(usage, key, hash_of(key));
}

static void insert(uint32_t *table, uint32_t cap, uint64_t hash, uint32_t index)
{
    uint32_t at = (uint32_t)hash & (cap - 1);
    while (table[at] != 0)
        at = (at + 1) & (cap - 1);
    table[at] = index + 1;
}

// The table has twice as many places as there are entries, so it is never more than half full.
static bool grow(struct usage *usage)
{
    uint32_t cap = usage->entry_cap > 0 ? 2 * usage->entry_cap : ENTRIES_FIRST;
    uint32_t *table = heap_alloc(2 * (size_t)cap, sizeof *table);
    uint32_t *places = heap_resize(usage->free_places, cap * sizeof *places);
    if (places != NULL)
        usage->free_places = places;
    struct usage_entry *entries =
        table != NULL && places != NULL ? heap_resize(usage->entries, cap * sizeof *entries) : NULL;
    if (entries == NULL) {
        heap_free(table);
        return false;
    }
    usage->entries = entries;
    usage->entry_cap = cap;
    for (uint32_t i = 0; i < usage->entry_count; i++)
        if (entries[i].key != NULL)
            insert(table, 2 * cap, entries[i].hash, i);
    heap_free(usage->table);
    usage->table = table;
    usage->table_cap = 2 * cap;
    return true;
}

uint32_t usage_entry_make(struct usage *usage, struct slice key)
{
    uint64_t hash = hash_of(key);
    uint32_t index = find(usage, key, hash);
    if (index != NOWHERE || key.len == 0 || key.len > USAGE_KEY_BYTES)
        return index;
    if (usage->free_count == 0 &&
        (usage->entry_count >= USAGE_FLAGS_MAX || (usage->entry_count == usage->entry_cap && !grow(usage))))
        return NOWHERE;
    char *copy = heap_strndup(key.data, key.len);
    if (copy == NULL)
        return NOWHERE;
    index = usage->free_count > 0 ? usage->free_places[--usage->free_count] : usage->entry_count++;
    usage->entries[index] = (struct usage_entry){.key = copy,
                                                 .key_len = (uint32_t)key.len,
                                                 .hash = hash,
                                                 .outcome = USAGE_OUTCOME_NONE,
                                                 .gone_watched_ms = -1};
    insert(usage->table, usage->table_cap, hash, index);
    return index;
}

static void free_contents(struct usage_entry *entry)
{
    for (uint8_t i = 0; i < entry->variant_count; i++)
        heap_free(entry->variants[i].name);
    heap_free(entry->variants);
    heap_free(entry->key);
    *entry = (struct usage_entry){0};
}

// The entries behind it in the same run move up, so that a search still finds them.
static void unlink_entry(struct usage *usage, uint32_t index)
{
    uint32_t mask = usage->table_cap - 1;
    uint32_t at = (uint32_t)usage->entries[index].hash & mask;
    while (usage->table[at] != index + 1)
        at = (at + 1) & mask;
    for (uint32_t next = (at + 1) & mask; usage->table[next] != 0; next = (next + 1) & mask) {
        uint32_t home = (uint32_t)usage->entries[usage->table[next] - 1].hash & mask;
        if (((next - home) & mask) >= ((next - at) & mask)) {
            usage->table[at] = usage->table[next];
            at = next;
        }
    }
    usage->table[at] = 0;
}

static void entry_free(struct usage *usage, uint32_t index)
{
    unlink_entry(usage, index);
    free_contents(&usage->entries[index]);
    usage->free_places[usage->free_count++] = index;
}

uint8_t usage_variant_slot(struct usage_entry *entry, struct slice name)
{
    for (uint8_t i = 0; i < entry->variant_count; i++)
        if (slice_equal(slice_of(entry->variants[i].name), name))
            return i;
    if (entry->variants == NULL)
        entry->variants = heap_alloc(USAGE_VARIANTS_MAX, sizeof *entry->variants);
    if (entry->variants == NULL || entry->variant_count == USAGE_VARIANTS_MAX)
        return USAGE_VARIANTS_MAX;
    char *copy = heap_strndup(name.data, name.len);
    if (copy == NULL)
        return USAGE_VARIANTS_MAX;
    entry->variants[entry->variant_count].name = copy;
    return entry->variant_count++;
}

// ---- plans ----

static void plan_free(struct usage_plan *plan)
{
    heap_free(plan->places);
    heap_free(plan->last);
    heap_free(plan->sums);
    *plan = (struct usage_plan){0};
}

static void forget_plan(struct usage *usage, uint32_t i)
{
    if (usage->plans[i].version > usage->forgotten)
        usage->forgotten = usage->plans[i].version;
    plan_free(&usage->plans[i]);
    usage->plans[i] = usage->plans[--usage->plan_count];
    usage->plans[usage->plan_count] = (struct usage_plan){0};
}

static void forget_idle(struct usage *usage, int64_t now_ms)
{
    for (uint32_t i = usage->plan_count; i-- > 0;)
        if (usage->plans[i].version != usage->newest && now_ms - usage->plans[i].gathered_ms > PLAN_IDLE_MS)
            forget_plan(usage, i);
}

static void forget_oldest(struct usage *usage)
{
    uint32_t oldest = 0;
    for (uint32_t i = 1; i < usage->plan_count; i++)
        if (usage->plans[i].version < usage->plans[oldest].version)
            oldest = i;
    forget_plan(usage, oldest);
}

static bool known_to_plans(const struct usage *usage, const struct usage_entry *entry)
{
    for (uint32_t i = 0; i < usage->plan_count; i++)
        if (usage->plans[i].version <= entry->version)
            return true;
    return false;
}

// Makes room: drops flags that left the set so long ago and that no snapshot being gathered knows.
static void drop_gone(struct usage *usage, int64_t gone_for_ms)
{
    for (uint32_t i = 0; i < usage->entry_count; i++) {
        const struct usage_entry *entry = &usage->entries[i];
        if (entry->key != NULL && entry->gone_watched_ms >= 0 &&
            usage->watched_ms - entry->gone_watched_ms >= gone_for_ms && !known_to_plans(usage, entry))
            entry_free(usage, i);
    }
}

static void match(struct usage *usage, struct usage_plan *plan, const struct flags_image *set, int64_t now_ms)
{
    uint32_t cursor = 0;
    struct flags_info info;
    for (uint32_t i = 0; i < plan->flag_count && flags_image_next(set, &cursor, &info); i++) {
        uint32_t index = usage_entry_make(usage, info.key);
        plan->places[i] = (struct usage_place){index, info.first_counter, info.variant_count};
        if (index == NOWHERE)
            continue;
        struct usage_entry *entry = &usage->entries[index];
        entry->version = plan->version > entry->version ? plan->version : entry->version;
        if (entry->first_seen_ms == 0) {
            entry->first_seen_ms = now_ms;
            entry->active_watched_ms = usage->watched_ms;
        }
    }
}

// Flags in the newest snapshot are present; all others have left the set.
static void mark_gone(struct usage *usage)
{
    for (uint32_t i = 0; i < usage->entry_count; i++) {
        struct usage_entry *entry = &usage->entries[i];
        if (entry->version == usage->newest)
            entry->gone_watched_ms = -1;
        else if (entry->key != NULL && entry->gone_watched_ms < 0)
            entry->gone_watched_ms = usage->watched_ms;
    }
}

static struct usage_plan *plan_make(struct usage *usage, const struct flagset_snapshot *snapshot,
                                    int64_t now_ms)
{
    const struct flags_image *set = &snapshot->all.set;
    struct usage_plan plan = {.version = snapshot->version, .gathered_ms = now_ms};
    if (usage->plan_count == USAGE_SNAPSHOTS_MAX)
        forget_oldest(usage);
    plan.flag_count = flags_image_flag_count(set);
    plan.counter_count = flags_image_counter_count(set);
    plan.places = heap_alloc((size_t)plan.flag_count + 1, sizeof *plan.places);
    plan.last = heap_alloc((size_t)plan.counter_count + 1, sizeof *plan.last);
    plan.sums = heap_alloc((size_t)plan.counter_count + 1, sizeof *plan.sums);
    if (plan.places == NULL || plan.last == NULL || plan.sums == NULL) {
        plan_free(&plan); // its counts are taken at the next gather
        return NULL;
    }
    if (usage->entry_count - usage->free_count + plan.flag_count > USAGE_FLAGS_MAX)
        drop_gone(usage, 0);
    match(usage, &plan, set, now_ms);
    usage->plans[usage->plan_count] = plan;
    if (plan.version > usage->newest) {
        usage->newest = plan.version;
        mark_gone(usage);
    }
    return &usage->plans[usage->plan_count++];
}

static struct usage_plan *plan_of(struct usage *usage, const struct flagset_snapshot *snapshot,
                                  int64_t now_ms)
{
    for (uint32_t i = 0; i < usage->plan_count; i++)
        if (usage->plans[i].version == snapshot->version)
            return &usage->plans[i];
    return snapshot->version > usage->forgotten ? plan_make(usage, snapshot, now_ms) : NULL;
}

// ---- gathering ----

static uint64_t grown(struct usage_plan *plan, uint32_t counter)
{
    uint64_t delta = plan->sums[counter] - plan->last[counter];
    plan->last[counter] = plan->sums[counter];
    return delta;
}

// Sums reader by reader, because going from reader to reader for each counter would miss the cache at each
// load.
static void sum_readers(struct usage_plan *plan, const struct flagset_snapshot *snapshot)
{
    memset(plan->sums, 0, plan->counter_count * sizeof *plan->sums);
    for (uint32_t r = 0; r < snapshot->reader_count; r++)
        for (uint32_t i = 0; i < plan->counter_count; i++)
            plan->sums[i] += flags_tally_read(&snapshot->tallies[r], i);
}

// Notes which variant answered in this gather: `outcome` alone, or several.
static void note_outcome(struct usage *usage, struct usage_entry *entry, uint8_t outcome, uint32_t outcomes,
                         int64_t now_ms)
{
    if (outcomes == 0)
        return;
    if (outcomes > 1 || outcome == USAGE_VARIANTS_MAX) {
        entry->outcome = USAGE_OUTCOME_NONE;
        entry->one_variant_since_ms = 0;
        return;
    }
    if (entry->outcome == outcome)
        return;
    entry->outcome = outcome;
    entry->one_variant_since_ms = now_ms;
    entry->one_watched_ms = usage->watched_ms;
}

static uint8_t add_variant(const struct flagset_snapshot *snapshot, struct usage_entry *entry, uint32_t i,
                           uint64_t delta)
{
    struct slice name;
    struct slice json;
    uint8_t slot = USAGE_VARIANTS_MAX;
    if (flags_image_variant_get(&snapshot->all.set, (struct slice){entry->key, entry->key_len}, i, &name,
                                &json))
        slot = usage_variant_slot(entry, name);
    if (slot == USAGE_VARIANTS_MAX)
        entry->other += delta;
    else
        entry->variants[slot].evaluations += delta;
    return slot;
}

static void gather_flag(struct usage *usage, const struct flagset_snapshot *snapshot, struct usage_plan *plan,
                        const struct usage_place *place, int64_t now_ms)
{
    struct usage_entry *entry = place->entry != NOWHERE ? &usage->entries[place->entry] : NULL;
    uint8_t outcome = USAGE_OUTCOME_NONE;
    uint32_t outcomes = 0;
    uint64_t total = 0;
    for (uint32_t i = 0; i < place->variant_count + 2; i++) {
        uint64_t delta = grown(plan, place->first_counter + i);
        total += delta;
        if (delta == 0 || entry == NULL)
            continue;
        if (i == place->variant_count + 1) {
            entry->errors += delta; // an error is a use of the flag, but no answer
            continue;
        }
        if (i == place->variant_count)
            entry->defaulted += delta;
        outcome = i < place->variant_count ? add_variant(snapshot, entry, i, delta) : USAGE_OUTCOME_DEFAULT;
        outcomes++;
    }
    if (total == 0)
        return;
    if (entry == NULL) {
        usage->unremembered += total;
        return;
    }
    entry->evaluations += total;
    entry->last_evaluated_ms = now_ms;
    entry->active_watched_ms = usage->watched_ms;
    note_outcome(usage, entry, outcome, outcomes, now_ms);
}

static int64_t watched_at(const struct usage *usage, int64_t now_ms)
{
    int64_t gap = now_ms - usage->now_ms;
    return usage->watched_ms + (gap > 0 && gap <= USAGE_GAP_MS_MAX ? gap : 0);
}

void usage_gather(struct usage *usage, const struct flagset_snapshot *snapshot, int64_t now_ms)
{
    usage->watched_ms = watched_at(usage, now_ms);
    usage->now_ms = now_ms;
    struct usage_plan *plan = plan_of(usage, snapshot, now_ms);
    if (plan != NULL) {
        plan->gathered_ms = now_ms;
        sum_readers(plan, snapshot);
        usage->unknown += grown(plan, 0);
        for (uint32_t i = 0; i < plan->flag_count; i++)
            gather_flag(usage, snapshot, plan, &plan->places[i], now_ms);
    }
    forget_idle(usage, now_ms);
}

// ---- asking ----

static enum usage_stale stale_of(const struct usage *usage, const struct usage_entry *entry, int64_t now_ms)
{
    int64_t watched = watched_at(usage, now_ms);
    if (watched - entry->active_watched_ms >= STALE_MS)
        return USAGE_UNUSED;
    bool one = entry->outcome != USAGE_OUTCOME_NONE && watched - entry->one_watched_ms >= STALE_MS;
    return one ? USAGE_ONE_VARIANT : USAGE_LIVE;
}

static void describe(const struct usage *usage, const struct usage_entry *entry, int64_t now_ms,
                     struct usage_flag *flag)
{
    *flag = (struct usage_flag){
        .key = entry->key,
        .evaluations = entry->evaluations,
        .defaulted = entry->defaulted,
        .errors = entry->errors,
        .first_seen_ms = entry->first_seen_ms,
        .last_evaluated_ms = entry->last_evaluated_ms,
        .one_variant_since_ms = entry->one_variant_since_ms,
        .stale = stale_of(usage, entry, now_ms),
    };
    for (uint8_t i = 0; i < entry->variant_count; i++) {
        flag->variants[flag->variant_count].name = entry->variants[i].name;
        flag->variants[flag->variant_count++].evaluations = entry->variants[i].evaluations;
    }
    if (entry->other > 0) {
        flag->variants[flag->variant_count].name = "(other)";
        flag->variants[flag->variant_count++].evaluations = entry->other;
    }
}

static bool present(const struct usage *usage, const struct usage_entry *entry)
{
    return entry->key != NULL && entry->version != 0 && entry->version == usage->newest;
}

bool usage_get(const struct usage *usage, struct slice key, int64_t now_ms, struct usage_flag *flag)
{
    uint32_t index = usage_entry_find(usage, key);
    if (index == NOWHERE || !present(usage, &usage->entries[index]))
        return false;
    describe(usage, &usage->entries[index], now_ms, flag);
    return true;
}

bool usage_next(const struct usage *usage, uint32_t *cursor, int64_t now_ms, struct usage_flag *flag)
{
    while (*cursor < usage->entry_count) {
        const struct usage_entry *entry = &usage->entries[(*cursor)++];
        if (!present(usage, entry))
            continue;
        describe(usage, entry, now_ms, flag);
        return true;
    }
    return false;
}

uint64_t usage_unknown(const struct usage *usage)
{
    return usage->unknown;
}

uint64_t usage_unremembered(const struct usage *usage)
{
    return usage->unremembered;
}

// ---- life ----

// Empties the table.
static void clear(struct usage *usage)
{
    for (uint32_t i = 0; i < usage->entry_count; i++)
        if (usage->entries[i].key != NULL)
            free_contents(&usage->entries[i]);
    heap_free(usage->entries);
    heap_free(usage->free_places);
    heap_free(usage->table);
    *usage = (struct usage){.path = usage->path};
}

enum status usage_open(const char *path, int64_t now_ms, struct usage **out, bool *damaged)
{
    bool corrupt = false;
    struct usage *usage = heap_alloc(1, sizeof *usage);
    if (usage == NULL)
        return STATUS_NO_MEMORY;
    usage->path = path != NULL ? heap_strdup(path) : NULL;
    enum status status = path != NULL && usage->path == NULL ? STATUS_NO_MEMORY : STATUS_NOT_FOUND;
    if (usage->path != NULL)
        status = usage_file_read(usage);
    if (status == STATUS_CORRUPT) {
        corrupt = true;
        clear(usage);
        status = usage_file_set_aside(usage);
    }
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        usage_close(usage);
        return status;
    }
    usage->now_ms = usage->now_ms != 0 ? usage->now_ms : now_ms;
    usage->saved_ms = now_ms;
    *damaged = corrupt;
    *out = usage;
    return STATUS_OK;
}

enum status usage_save(struct usage *usage, int64_t now_ms, bool now)
{
    int64_t since = now_ms - usage->saved_ms;
    if (usage->path == NULL || (!now && since >= 0 && since < SAVE_EVERY_MS))
        return STATUS_OK;
    drop_gone(usage, STALE_MS);
    enum status status = usage_file_write(usage);
    // When writing to the disk fails, it is tried again in a minute, not at once.
    usage->saved_ms = now_ms;
    return status;
}

void usage_close(struct usage *usage)
{
    if (usage == NULL)
        return;
    for (uint32_t i = 0; i < usage->plan_count; i++)
        plan_free(&usage->plans[i]);
    clear(usage);
    heap_free(usage->path);
    heap_free(usage);
}
