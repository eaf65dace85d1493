// SPDX-License-Identifier: Apache-2.0
// Flags under control: sources from the file, what operators lay over them (journalled first), what rollouts
// of flags do to them, and the moment a new set is in force.
#include "control/flags.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "control/control_private.h"
#include "control/overlay.h"

const char *control_flag_op_name(enum control_flag_op op)
{
    static const char *const names[] = {[CONTROL_FLAG_SET] = "set",
                                        [CONTROL_FLAG_ON] = "on",
                                        [CONTROL_FLAG_OFF] = "off",
                                        [CONTROL_FLAG_UNSET] = "unset"};
    return (size_t)op < ARRAY_LEN(names) ? names[op] : "unknown";
}

struct flagset *control_flagset(const struct control *control)
{
    return control->flags.set;
}

const struct usage *control_flag_usage(const struct control *control)
{
    return control->flags.usage;
}

void control_flags_watch(struct control *control, struct control_flags_watcher *watcher)
{
    list_push_back(&control->flags.watchers, &watcher->link);
}

void control_flags_unwatch(struct control_flags_watcher *watcher)
{
    list_remove(&watcher->link);
}

// ---- what rollouts lay over flags ----

// The live rollout whose run drives the flag now, or NULL.
static const struct control_live *driver_of(const struct control *control, struct slice key)
{
    for (uint32_t i = 0; i < control->live_count; i++) {
        const struct control_live *live = &control->live[i];
        if (live->share.flag[0] != '\0' && slice_equal(slice_of(live->share.flag), key) &&
            control_flag_share_applies(control->config, live->name, &live->share))
            return live;
    }
    return NULL;
}

static void patch_split(struct flags_patch *patch, const struct control_share *share)
{
    patch->split = true;
    patch->split_from = slice_of(share->from);
    patch->split_to = slice_of(share->to);
    patch->split_share = share->weight;
    patch->ring_count = share->ring_count;
    for (uint32_t i = 0; i < share->ring_count; i++)
        patch->rings[i] = slice_of(share->rings[i]);
}

// One patch per key: switches first, then splits of flags that have none yet. Slices borrow from overlay and
// live.
static uint32_t patches_make(const struct control *control, struct flags_patch *patches)
{
    const struct control_overlay *overlay = control->flags.overlay;
    uint32_t count = 0;
    for (uint32_t i = 0; i < overlay->count; i++) {
        const struct control_overlay_entry *entry = &overlay->entries[i];
        const struct control_live *live = driver_of(control, slice_of(entry->key));
        if (entry->state == FLAGS_PATCH_AS_IS && !entry->killed && live == NULL)
            continue;
        struct flags_patch *patch = &patches[count++];
        *patch = (struct flags_patch){.key = slice_of(entry->key),
                                      .state = entry->state,
                                      .kill = entry->killed,
                                      .kill_variant = slice_of(entry->kill_variant)};
        if (live != NULL)
            patch_split(patch, &live->share);
    }
    for (uint32_t i = 0; i < control->live_count; i++) {
        const struct control_live *live = &control->live[i];
        struct slice key = slice_of(live->share.flag);
        if (key.len == 0 || driver_of(control, key) != live || control_overlay_find(overlay, key) != NULL)
            continue;
        struct flags_patch *patch = &patches[count++];
        *patch = (struct flags_patch){.key = key};
        patch_split(patch, &live->share);
    }
    return count;
}

// All that stands over the sources now.
struct laid_over {
    char *json; // heap
    size_t len;
    struct flags_patch *patches; // heap; its slices borrow from overlay and live
    uint32_t patch_count;
};

static enum status laid_over_make(const struct control *control, struct laid_over *over)
{
    const struct control_overlay *overlay = control->flags.overlay;
    *over = (struct laid_over){
        .patches = heap_alloc(overlay->count + control->live_count + 1, sizeof *over->patches)};
    if (over->patches == NULL)
        return STATUS_NO_MEMORY;
    over->patch_count = patches_make(control, over->patches);
    return control_overlay_document(overlay, &over->json, &over->len);
}

static void laid_over_free(struct laid_over *over)
{
    heap_free(over->json);
    heap_free(over->patches);
}

static enum status hand_over(struct control *control)
{
    struct laid_over over;
    enum status status = laid_over_make(control, &over);
    if (status == STATUS_OK)
        status = flagset_overlay(control->flags.set, (struct slice){over.json, over.len}, over.patches,
                                 over.patch_count, control->flags.change);
    laid_over_free(&over);
    return status;
}

void control_flags_refresh(struct control *control)
{
    struct control_flags *flags = &control->flags;
    if (flags->set == NULL)
        return;
    flags->change++;
    flags->handed_over = hand_over(control) == STATUS_OK;
    if (!flags->handed_over)
        control_log_repeat(control->log, CONTROL_LOG_ERROR,
                           "no memory to put a change of flags in force; tried again at every tick", NULL, 0);
}

// ---- a new set ----

static void retired_drop(struct control_flags *flags, uint32_t i)
{
    flagset_snapshot_unref(flags->retired[i].set);
    flags->retired_count--;
    memmove(&flags->retired[i], &flags->retired[i + 1], (flags->retired_count - i) * sizeof *flags->retired);
}

// Readers may still count in a set that was replaced: it is gathered for a second longer, or until too many
// wait.
static void usage_follow(struct control *control, const struct flagset_snapshot *snapshot)
{
    struct control_flags *flags = &control->flags;
    if (flags->counted == snapshot)
        return;
    if (flags->retired_count == CONTROL_RETIRED_SETS) {
        usage_gather(flags->usage, flags->retired[0].set, control_wall_ms(control));
        retired_drop(flags, 0);
    }
#ifdef BUG_USAGE_OF_SHORT_SETS
    flagset_snapshot_unref(flags->counted);
    flags->counted = NULL;
#endif
    if (flags->counted != NULL)
        flags->retired[flags->retired_count++] = (struct control_retired){
            .set = flags->counted, .until_us = io_loop_now_us(control->loop) + 1000000};
    flags->counted = flagset_snapshot_ref(snapshot);
}

// Each problem is logged when it comes up, not with every set in which it still is.
static void note_problems(struct control *control)
{
    static const struct siphash_key salt = {0x70726f626c656d73ULL, 1};
    struct control_flags *flags = &control->flags;
    const struct flagset_problem *problems;
    uint64_t hashes[FLAGSET_PROBLEMS_MAX];
    uint32_t count = flagset_problems(flags->set, &problems);
    bool refused = flagset_refused(flags->set);
    for (uint32_t i = 0; i < count; i++) {
        bool told = false;
        hashes[i] = siphash(salt, problems[i].text, strlen(problems[i].text)) ^ (refused ? 1 : 0);
#ifndef BUG_PROBLEMS_TOLD_AGAIN
        for (uint32_t j = 0; j < flags->told_count; j++)
            told |= flags->told[j] == hashes[i];
#endif
        if (!told)
            control_log_write(control->log, problems[i].error ? CONTROL_LOG_ERROR : CONTROL_LOG_WARN,
                              problems[i].error && refused
                                  ? "a change of flags was refused whole; the last good set stays"
                                  : "flags have a problem",
                              CONTROL_FIELDS(CONTROL_TEXT("problem", problems[i].text)));
    }
    memcpy(flags->told, hashes, count * sizeof *hashes);
    flags->told_count = count;
}

// What a rollout's arms weigh is what the set in force splits by, not what the core wants already: a set may
// come between two changes, or split before what was changed beside is compiled.
static void splits_take(struct control *control, const struct flagset_snapshot *snapshot)
{
    for (uint32_t i = 0; i < control->live_count; i++) {
        struct control_live *live = &control->live[i];
        uint32_t share = 0;
        if (live->share.flag[0] == '\0')
            continue;
        (void)flagset_snapshot_split(snapshot, slice_of(live->share.flag), &share);
#ifdef BUG_SPLIT_AS_WANTED
        share = live->share.weight;
#endif
        if (share == live->split_weight && live->split_table != 0)
            continue;
        live->split_weight = share;
        live->split_table = snapshot->version;
    }
}

bool control_flags_in_path(const struct config *config)
{
    for (uint32_t i = 0; i < config->service_count; i++) {
        const struct config_service_flags *flags = &config->services[i].flags;
        if (flags->header_count > 0 || flags->version[0] != '\0')
            return true;
    }
    for (uint32_t i = 0; i < config->rollout_count; i++)
        if (config->rollouts[i].spec.flag[0] != '\0' && config->rollouts[i].spec.service[0] != '\0')
            return true;
    return false;
}

static void on_changed(void *context, const struct flagset_snapshot *snapshot)
{
    struct control *control = context;
    note_problems(control);
    if (snapshot == NULL)
        return;
    splits_take(control, snapshot);
    usage_follow(control, snapshot);
    if (control_flags_in_path(control->config))
        control_publish_or_retry(control);
    control_log_write(control->log, CONTROL_LOG_INFO, "flags are in force",
                      CONTROL_FIELDS(CONTROL_NUMBER("set", snapshot->version),
                                     CONTROL_NUMBER("flags", flags_set_count(&snapshot->all.set)),
                                     CONTROL_NUMBER("change", snapshot->change)));
    struct list *link = control->flags.watchers.next;
    while (link != &control->flags.watchers) {
        struct control_flags_watcher *watcher = CONTAINER_OF(link, struct control_flags_watcher, link);
        link = link->next; // the watcher may leave
        watcher->changed(watcher, snapshot);
    }
}

// ---- sources ----

enum { DEFINE_NAME_BYTES = CONFIG_FILE_NAME_BYTES };

// The file's own flags are the first source. Their text keeps the lines of the file: only the first one
// moves.
static enum status define_make(const struct config *config, struct flagset_source *source, char **json)
{
    static const char begin[] = "{\"flags\":", end[] = "}";
    size_t len = strlen(config->flags.define);
    *json = heap_alloc(len + sizeof begin + sizeof end, 1);
    if (*json == NULL)
        return STATUS_NO_MEMORY;
    memcpy(*json, begin, sizeof begin - 1);
    memcpy(*json + sizeof begin - 1, config->flags.define, len);
    memcpy(*json + sizeof begin - 1 + len, end, sizeof end - 1);
    *source = (struct flagset_source){.kind = FLAGSET_INLINE,
                                      .name = config->flags.position.file,
                                      .json = {*json, len + sizeof begin + sizeof end - 2}};
    return STATUS_OK;
}

struct sources {
    struct flagset_source items[CONFIG_FLAG_SOURCES_MAX + 1];
    uint32_t count;
    char *define;
};

static enum status sources_make(const struct config *config, struct sources *sources)
{
    static const enum flagset_source_kind kinds[] = {[CONFIG_FLAG_FILE] = FLAGSET_FILE,
                                                     [CONFIG_FLAG_DIRECTORY] = FLAGSET_DIRECTORY,
                                                     [CONFIG_FLAG_URL] = FLAGSET_HTTP};
    *sources = (struct sources){.count = 0};
    if (config->flags.define != NULL &&
        define_make(config, &sources->items[sources->count++], &sources->define) != STATUS_OK)
        return STATUS_NO_MEMORY;
    for (uint32_t i = 0; i < config->flags.source_count; i++) {
        const struct config_flag_source *from = &config->flags.sources[i];
        sources->items[sources->count++] = (struct flagset_source){
            .kind = kinds[from->kind],
            .name = from->place,
            .every_ms = from->every_ms,
            .token_file = from->token_file[0] != '\0' ? from->token_file : NULL,
        };
    }
    return STATUS_OK;
}

static struct slice segments_of(const struct config *config)
{
    return config->segments != NULL ? slice_of(config->segments) : (struct slice){"", 0};
}

enum status control_segments_fit(const struct config *config, const struct rollout_spec *spec,
                                 const char **missing)
{
    *missing = NULL;
    struct slice text = segments_of(config);
    struct flags_json_space space = {
        .node_cap = (uint32_t)text.len + 2, .char_cap = text.len + 1, .last_wins = true};
    space.nodes = heap_alloc(space.node_cap, sizeof *space.nodes);
    space.chars = heap_alloc(space.char_cap, 1);
    struct flags_json *root = NULL;
    struct flags_json_fault fault;
    enum status status = space.nodes == NULL || space.chars == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK && text.len > 0)
        status = flags_json_parse(text, &space, &root, &fault);
    for (uint32_t i = 0; i < spec->stage_count && status == STATUS_OK; i++) {
        const struct rollout_stage *stage = &spec->stages[i];
        if (stage->kind == ROLLOUT_STAGE_SEGMENT &&
            (root == NULL || flags_json_member(root, slice_of(stage->segment)) == NULL)) {
            *missing = stage->segment;
            status = STATUS_CONFLICT;
        }
    }
    heap_free(space.nodes);
    heap_free(space.chars);
    return status;
}

static enum status problems_fault(const struct flagset_problem *problems, uint32_t count, enum status status,
                                  struct control_fault *fault)
{
    if (count == 0)
        return control_fault_set(fault, status, "the flags cannot be read: %s", status_name(status));
    struct text text = text_over(fault->text, sizeof fault->text);
    text_add(&text, SLICE("the flags are not valid:"));
    for (uint32_t i = 0; i < count; i++)
        if (problems[i].error)
            text_addf(&text, "\n  %s", problems[i].text);
    fault->status = status;
    return status;
}

static enum status set_open(struct control *control, const struct sources *sources,
                            const struct laid_over *over, uint32_t readers, struct control_fault *fault)
{
    const struct config *config = control->config;
    struct flagset_problem *problems = heap_alloc(FLAGSET_PROBLEMS_MAX, sizeof *problems);
    if (problems == NULL)
        return control_fault_set(fault, STATUS_NO_MEMORY, "no memory left for flags");
    uint32_t count = 0;
    struct flagset_config wanted = {
        .loop = control->loop,
        .sources = sources->items,
        .source_count = sources->count,
        .segments = segments_of(config),
        .reader_count = readers,
        .share = config->flags.share[0] != '\0' ? config->flags.share : NULL,
        .overlay = {over->json, over->len},
        .patches = over->patches,
        .patch_count = over->patch_count,
        .change = control->flags.change,
        .changed = on_changed,
        .context = control,
    };
    enum status status = flagset_create(&wanted, &control->flags.set, problems, &count);
    if (status != STATUS_OK)
        (void)problems_fault(problems, count, status, fault);
    heap_free(problems);
    return status;
}

static void ignore_change(void *context, const struct flagset_snapshot *snapshot)
{
    (void)context;
    (void)snapshot;
}

static void leave_addresses_out(struct sources *sources, struct control_flags_report *report)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sources->count; i++)
        if (sources->items[i].kind != FLAGSET_HTTP)
            sources->items[kept++] = sources->items[i];
    report->left_out = sources->count - kept;
    report->sources = kept;
    sources->count = kept;
}

static bool variant_exists(const struct flags_set *set, struct slice key, const char *variant)
{
    struct slice name, json;
    for (uint32_t i = 0; flags_set_variant(set, key, i, &name, &json); i++)
        if (slice_equal(name, slice_of(variant)))
            return true;
    return false;
}

// Whether the set lacks what the rollout moves, with a sentence.
static bool rollout_lacks(const struct flags_set *set, const struct rollout_spec *spec, char *why, size_t cap)
{
    struct slice key = slice_of(spec->flag);
    struct flags_info info;
    const char *const variants[] = {spec->from, spec->to};
#ifdef BUG_ROLLOUT_OF_NOTHING
    return false;
#endif
    if (!flags_set_find(set, key, &info)) {
        snprintf(why, cap, "there is no flag \"%s\"", spec->flag);
        return true;
    }
    for (size_t i = 0; i < ARRAY_LEN(variants); i++) {
        if (variant_exists(set, key, variants[i]))
            continue;
        snprintf(why, cap, "flag \"%s\" has no variant \"%s\"", spec->flag, variants[i]);
        return true;
    }
    return false;
}

static void report_rollouts(const struct config *config, const struct flags_set *set,
                            struct control_flags_report *report)
{
    char why[CONTROL_FLAG_KEY_BYTES + 128];
    for (uint32_t i = 0; i < config->rollout_count; i++) {
        const struct rollout_spec *spec = &config->rollouts[i].spec;
        if (spec->flag[0] == '\0' || !rollout_lacks(set, spec, why, sizeof why) ||
            report->problem_count == FLAGSET_PROBLEMS_MAX)
            continue;
        struct flagset_problem *problem = &report->problems[report->problem_count++];
        struct text text = text_over(problem->text, sizeof problem->text);
        text_addf(&text, "rollout %s: %s%s", spec->name, why,
                  report->left_out > 0 ? ", unless it comes from an address" : "");
        problem->error = false;
    }
}

static void report_fill(const struct flagset *set, struct control_flags_report *report)
{
    const struct flagset_problem *problems;
    report->problem_count = flagset_problems(set, &problems);
    if (report->problem_count > FLAGSET_PROBLEMS_MAX)
        report->problem_count = FLAGSET_PROBLEMS_MAX;
    memcpy(report->problems, problems, report->problem_count * sizeof *problems);
    report->flags = flags_set_count(&flagset_current(set)->all.set);
}

// over: what is laid over them here, or NULL.
static enum status check_with(const struct config *config, const struct laid_over *over,
                              struct control_flags_report *report)
{
    memset(report, 0, sizeof *report);
    struct io_loop_config loop_config = {.kind = IO_KIND_EPOLL, .bufs_max = 16};
    struct io_loop *loop = NULL;
    struct flagset *set = NULL;
    struct sources *sources = heap_alloc(1, sizeof *sources);
    enum status status = sources == NULL ? STATUS_NO_MEMORY : sources_make(config, sources);
    if (status == STATUS_OK)
        status = io_loop_create(&loop_config, &loop);
    if (status == STATUS_OK) {
        leave_addresses_out(sources, report);
        struct flagset_config wanted = {.loop = loop,
                                        .sources = sources->items,
                                        .source_count = sources->count,
                                        .segments = segments_of(config),
                                        .changed = ignore_change};
        if (over != NULL) {
            wanted.overlay = (struct slice){over->json, over->len};
            wanted.patches = over->patches;
            wanted.patch_count = over->patch_count;
        }
        status = flagset_create(&wanted, &set, report->problems, &report->problem_count);
    }
    if (status == STATUS_OK) {
        report_fill(set, report);
        report_rollouts(config, &flagset_current(set)->all.set, report);
        flagset_destroy(set);
    }
    if (loop != NULL)
        io_loop_destroy(loop);
    if (sources != NULL)
        heap_free(sources->define);
    heap_free(sources);
    return status;
}

enum status control_flags_check(const struct config *config, struct control_flags_report *report)
{
    return check_with(config, NULL, report);
}

static enum status usage_begin(struct control *control, struct control_fault *fault)
{
    char path[CONFIG_PATH_BYTES + 16];
    bool damaged = false;
    snprintf(path, sizeof path, "%s-usage", journal_path(control->journal));
    enum status status = usage_open(path, control_wall_ms(control), &control->flags.usage, &damaged);
    if (status != STATUS_OK)
        return control_fault_set(fault, status, "%s cannot be used (%s); move it away to begin a new one",
                                 path, status_name(status));
    if (damaged)
        control_log_write(control->log, CONTROL_LOG_WARN,
                          "what was known of the use of flags was damaged and set aside; it begins anew",
                          CONTROL_FIELDS(CONTROL_TEXT("file", path)));
    return STATUS_OK;
}

enum status control_flags_open(struct control *control, uint32_t readers, struct control_fault *fault)
{
    if (!control->config->flags.given)
        return STATUS_OK;
    struct control_flags *flags = &control->flags;
    struct sources *sources = heap_alloc(1, sizeof *sources);
    struct laid_over over = {.json = NULL};
    enum status status = sources == NULL ? STATUS_NO_MEMORY : sources_make(control->config, sources);
    if (status == STATUS_OK)
        status = laid_over_make(control, &over);
    flags->change = flags->overlay->changes + 1;
    if (status != STATUS_OK)
        (void)control_fault_set(fault, status, "no memory left for flags");
    else
        status = set_open(control, sources, &over, readers, fault);
    laid_over_free(&over);
    if (sources != NULL)
        heap_free(sources->define);
    heap_free(sources);
    if (status == STATUS_OK)
        status = usage_begin(control, fault);
    if (status != STATUS_OK)
        return status;
    flags->handed_over = true;
    note_problems(control);
    splits_take(control, flagset_current(flags->set));
    usage_follow(control, flagset_current(flags->set));
    return STATUS_OK;
}

// Nobody counts any more: the rest is taken, and kept at once, for the next gather is another process's.
static void usage_end(struct control *control)
{
    struct control_flags *flags = &control->flags;
    int64_t now_ms = control_wall_ms(control);
    while (flags->retired_count > 0) {
        usage_gather(flags->usage, flags->retired[0].set, now_ms);
        retired_drop(flags, 0);
    }
    if (flags->counted != NULL)
        usage_gather(flags->usage, flags->counted, now_ms);
    flagset_snapshot_unref(flags->counted);
    if (usage_save(flags->usage, now_ms, true) != STATUS_OK)
        control_log_write(control->log, CONTROL_LOG_WARN, "what is known of the use of flags cannot be saved",
                          NULL, 0);
    usage_close(flags->usage);
}

void control_flags_close(struct control *control)
{
    struct control_flags *flags = &control->flags;
    if (flags->usage != NULL)
        usage_end(control);
    if (flags->set != NULL)
        flagset_destroy(flags->set);
    if (flags->overlay != NULL)
        control_overlay_deinit(flags->overlay);
    heap_free(flags->overlay);
    *flags = (struct control_flags){.set = NULL};
}

enum status control_flags_acceptable(const struct control *control, const struct config *config,
                                     struct control_fault *fault)
{
    if (control->flags.set == NULL || !config->flags.given)
        return STATUS_OK;
    struct control_flags_report *report = heap_alloc(1, sizeof *report);
    struct laid_over over = {.json = NULL};
    enum status status = report != NULL ? laid_over_make(control, &over) : STATUS_NO_MEMORY;
    if (status == STATUS_OK)
        status = check_with(config, &over, report);
    if (status != STATUS_OK)
        (void)problems_fault(report != NULL ? report->problems : NULL,
                             report != NULL ? report->problem_count : 0, status, fault);
    laid_over_free(&over);
    heap_free(report);
    return status;
}

void control_flags_reload(struct control *control)
{
#ifndef BUG_FLAGS_GONE_AT_RELOAD
    // Without the word nothing changes until the next start, as the log says.
    if (!control->config->flags.given)
        return;
#endif
    struct sources *sources = control->flags.set != NULL ? heap_alloc(1, sizeof *sources) : NULL;
    if (sources == NULL)
        return;
    if (sources_make(control->config, sources) == STATUS_OK)
        flagset_reconfigure(control->flags.set, sources->items, sources->count, segments_of(control->config));
    heap_free(sources->define);
    heap_free(sources);
    control_flags_refresh(control);
}

// ---- once a second ----

static void usage_tick(struct control *control)
{
    struct control_flags *flags = &control->flags;
    int64_t now_ms = control_wall_ms(control);
    for (uint32_t i = flags->retired_count; i-- > 0;) {
        usage_gather(flags->usage, flags->retired[i].set, now_ms);
        if (io_loop_now_us(control->loop) >= flags->retired[i].until_us)
            retired_drop(flags, i);
    }
    usage_gather(flags->usage, flags->counted, now_ms);
    if (usage_save(flags->usage, now_ms, false) != STATUS_OK)
        control_log_repeat(control->log, CONTROL_LOG_WARN,
                           "what is known of the use of flags cannot be saved", NULL, 0);
}

void control_flags_tick(struct control *control)
{
    struct control_flags *flags = &control->flags;
    if (flags->set == NULL)
        return;
    if (!flags->handed_over)
        control_flags_refresh(control);
    uint64_t now_us = io_loop_now_us(control->loop);
    if (now_us < flags->usage_due_us)
        return;
    flags->usage_due_us = now_us + 1000000;
    usage_tick(control);
}

// ---- changes ----

enum status control_flag_rollout_ready(const struct control *control, const struct rollout_spec *spec,
                                       struct control_fault *fault)
{
    if (control->flags.set == NULL)
        return control_fault_set(
            fault, STATUS_CONFLICT,
            "cannot start: the file's `flags` take effect only when the daemon is started "
            "again");
    char why[CONTROL_FLAG_KEY_BYTES + 128];
    if (rollout_lacks(&flagset_current(control->flags.set)->all.set, spec, why, sizeof why))
        return control_fault_set(fault, STATUS_CONFLICT, "cannot start: %s", why);
    return STATUS_OK;
}

static enum status refuse_key(const char *key, struct control_fault *fault)
{
    size_t len = strlen(key);
    if (len == 0 || len >= CONTROL_FLAG_KEY_BYTES)
        return control_fault_set(fault, STATUS_INVALID, "a flag's key has 1 to %d bytes",
                                 CONTROL_FLAG_KEY_BYTES - 1);
    if (!flags_utf8_valid((struct slice){key, len}))
        return control_fault_set(fault, STATUS_INVALID, "the key is not well-formed UTF-8");
    return STATUS_OK;
}

static enum status refuse_set(struct control *control, const struct control_flag_change *change,
                              struct control_fault *fault)
{
    struct flagset_problem problem = {.text = ""};
    if (change->definition.len > CONTROL_FLAG_DEFINITION_BYTES)
        return control_fault_set(fault, STATUS_INVALID, "the definition is larger than %d KiB",
                                 CONTROL_FLAG_DEFINITION_BYTES / 1024);
    const struct control_live *live = driver_of(control, slice_of(change->key));
    if (live != NULL && live->share.active)
        return control_fault_set(fault, STATUS_CONFLICT,
                                 "rollout %s is moving flag %s; abort it or let it end before the flag is "
                                 "defined anew (`off` works at any time)",
                                 live->name, change->key);
    if (change->checked)
        return STATUS_OK;
    enum status status =
        flagset_check_flag(control->flags.set, slice_of(change->key), change->definition, &problem);
    if (status != STATUS_OK)
        return control_fault_set(fault, status, "%s",
                                 problem.text[0] != '\0' ? problem.text : status_name(status));
    return STATUS_OK;
}

static enum status refuse_switch(struct control *control, const struct control_flag_change *change,
                                 struct control_fault *fault)
{
    const struct flags_set *set = &flagset_current(control->flags.set)->all.set;
    struct slice key = slice_of(change->key);
    struct flags_info info;
    const struct control_overlay_entry *entry = control_overlay_find(control->flags.overlay, key);
    bool laid_over = entry != NULL;
    // Defined a moment ago and not in force yet: what its variants are is seen when it is. A kill that names
    // none of them changes nothing and is a warning.
    bool fresh = laid_over && entry->definition != NULL &&
                 flagset_current(control->flags.set)->change < control->flags.change;
    if (!flags_set_find(set, key, &info) && !laid_over)
        return control_fault_set(fault, STATUS_NOT_FOUND, "there is no flag \"%s\"", change->key);
    if (change->op == CONTROL_FLAG_UNSET && !laid_over)
        return control_fault_set(fault, STATUS_CONFLICT, "nothing was changed at runtime of flag \"%s\"",
                                 change->key);
    const struct control_live *live = driver_of(control, key);
    if (change->op == CONTROL_FLAG_UNSET && entry->definition != NULL && live != NULL && live->share.active)
        return control_fault_set(fault, STATUS_CONFLICT,
                                 "rollout %s is moving flag %s as it was defined at runtime; abort it or let "
                                 "it end before the definition goes",
                                 live->name, change->key);
    bool names = change->op == CONTROL_FLAG_OFF && change->variant != NULL && change->variant[0] != '\0';
    if (names && !fresh && !variant_exists(set, key, change->variant))
        return control_fault_set(fault, STATUS_INVALID, "flag \"%s\" has no variant \"%s\"", change->key,
                                 change->variant);
    if (names && strlen(change->variant) >= ROLLOUT_NAME_BYTES)
        return control_fault_set(fault, STATUS_INVALID, "the variant's name is longer than %d bytes",
                                 ROLLOUT_NAME_BYTES - 1);
    return STATUS_OK;
}

static enum status journal_change(struct control *control, const struct control_flag_change *change,
                                  uint64_t *seq, struct control_fault *fault)
{
    struct wire_writer writer = {.data = heap_alloc(1, CONTROL_OVERLAY_WIRE_BYTES_MAX),
                                 .cap = CONTROL_OVERLAY_WIRE_BYTES_MAX};
    if (writer.data == NULL)
        return control_fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    control_overlay_encode(change, &writer);
    CHECK(!writer.full);
    enum status status =
        control_record_flag(control, change->key, (struct slice){(const char *)writer.data, writer.len}, seq);
    heap_free(writer.data);
    if (status != STATUS_OK)
        return control_fault_set(fault, status, "the journal cannot be written, so nothing is changed: %s",
                                 control->health.journal_problem);
    return STATUS_OK;
}

enum status control_flag_apply(struct control *control, const struct control_flag_change *change,
                               uint64_t *number, struct control_fault *fault)
{
    struct control_flags *flags = &control->flags;
    if (flags->set == NULL)
        return control_fault_set(fault, STATUS_CONFLICT, "the file has no `flags`");
    if (control->health.draining)
        return control_fault_set(fault, STATUS_CONFLICT, "the daemon is shutting down");
    enum status status = refuse_key(change->key, fault);
    if (status == STATUS_OK)
        status = change->op == CONTROL_FLAG_SET ? refuse_set(control, change, fault)
                                                : refuse_switch(control, change, fault);
    if (status != STATUS_OK)
        return status;
    status = control_overlay_room(flags->overlay, change);
    if (status != STATUS_OK)
        return control_fault_set(fault, status,
                                 status == STATUS_FULL
                                     ? "no more than %d flags can be changed at runtime, and "
                                       "their definitions together have at most %d MiB"
                                     : "no memory left to change more flags",
                                 CONTROL_FLAG_OVERLAY_MAX, CONTROL_FLAG_OVERLAY_BYTES_MAX >> 20);
    uint64_t seq = 0;
#ifdef BUG_FLAG_BEFORE_JOURNAL
    if (control_overlay_take(flags->overlay, change, 0, 0) == STATUS_OK)
        control_flags_refresh(control);
#endif
    status = journal_change(control, change, &seq, fault);
    if (status != STATUS_OK)
        return status;
    status = control_overlay_take(flags->overlay, change, seq, control_wall_ms(control));
    if (status != STATUS_OK)
        return control_fault_set(
            fault, status,
            "the change is in the journal, but there is no memory to put it in force; it "
            "will be after a restart");
    control_log_write(control->log, CONTROL_LOG_INFO, "a flag was changed",
                      CONTROL_FIELDS(CONTROL_TEXT("flag", change->key),
                                     CONTROL_TEXT("change", control_flag_op_name(change->op)),
                                     CONTROL_TEXT("variant", change->variant != NULL ? change->variant : ""),
                                     CONTROL_TEXT("who", change->who), CONTROL_TEXT("from", change->from),
                                     CONTROL_NUMBER("entry", seq)));
    control_flags_refresh(control);
    *number = flags->change;
    return STATUS_OK;
}

// ---- what people look at ----

uint64_t control_flag_changes(const struct control *control)
{
    return control->flags.overlay->changes;
}

void control_flag_overlay_get(const struct control *control, struct slice key,
                              struct control_flag_overlay *overlay)
{
    *overlay = (struct control_flag_overlay){.state = FLAGS_PATCH_AS_IS};
    if (control->flags.overlay == NULL)
        return;
    const struct control_live *live = driver_of(control, key);
    overlay->rollout = live != NULL ? live->name : NULL;
    const struct control_overlay_entry *entry = control_overlay_find(control->flags.overlay, key);
    if (entry == NULL)
        return;
    overlay->defined = entry->definition != NULL;
    overlay->state = entry->state;
    overlay->killed = entry->killed;
    memcpy(overlay->kill_variant, entry->kill_variant, sizeof overlay->kill_variant);
}

uint32_t control_flag_history_count(const struct control *control)
{
    if (control->flags.overlay == NULL)
        return 0;
    uint64_t changes = control->flags.overlay->changes;
    return changes < CONTROL_FLAG_CHANGES_KEPT ? (uint32_t)changes : CONTROL_FLAG_CHANGES_KEPT;
}

const struct control_flag_entry *control_flag_history(const struct control *control, uint32_t i)
{
    const struct control_overlay *overlay = control->flags.overlay;
    uint32_t count = control_flag_history_count(control);
    CHECK(i < count);
    return &overlay->history[(overlay->changes - count + i) % CONTROL_FLAG_CHANGES_KEPT];
}
