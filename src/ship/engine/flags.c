// SPDX-License-Identifier: Apache-2.0
// Flags under control: sources from the file, what operators lay over them (journalled first), what rollouts
// of flags do to them, and the moment a new set is in force.
#include "ship/engine/flags.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/heap.h"
#include "base/siphash.h"
#include "base/utf8.h"
#include "ship/engine/engine_private.h"
#include "ship/engine/overlay.h"

const char *engine_flag_op_name(enum engine_flag_op op)
{
    static const char *const names[] = {[ENGINE_FLAG_SET] = "set",
                                        [ENGINE_FLAG_ON] = "on",
                                        [ENGINE_FLAG_OFF] = "off",
                                        [ENGINE_FLAG_UNSET] = "unset"};
    return (size_t)op < ARRAY_LEN(names) ? names[op] : "unknown";
}

struct flagset *engine_flagset(const struct engine *engine)
{
    return engine->flags.set;
}

const struct usage *engine_flag_usage(const struct engine *engine)
{
    return engine->flags.usage;
}

void engine_flags_watch(struct engine *engine, struct engine_flags_watcher *watcher)
{
    list_push_back(&engine->flags.watchers, &watcher->link);
}

void engine_flags_unwatch(struct engine_flags_watcher *watcher)
{
    list_remove(&watcher->link);
}

// ---- what rollouts lay over flags ----

// The live rollout whose run drives the flag now, or NULL.
static const struct engine_live *driver_of(const struct engine *engine, struct slice key)
{
    for (uint32_t i = 0; i < engine->live_count; i++) {
        const struct engine_live *live = &engine->live[i];
        if (live->share.flag[0] != '\0' && slice_equal(slice_of(live->share.flag), key) &&
            engine_flag_share_applies(engine->config, live->name, &live->share))
            return live;
    }
    return NULL;
}

static void patch_split(struct flags_patch *patch, const struct engine_share *share)
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
static uint32_t patches_make(const struct engine *engine, struct flags_patch *patches)
{
    const struct engine_overlay *overlay = engine->flags.overlay;
    uint32_t count = 0;
    for (uint32_t i = 0; i < overlay->count; i++) {
        const struct engine_overlay_entry *entry = &overlay->entries[i];
        const struct engine_live *live = driver_of(engine, slice_of(entry->key));
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
    for (uint32_t i = 0; i < engine->live_count; i++) {
        const struct engine_live *live = &engine->live[i];
        struct slice key = slice_of(live->share.flag);
        if (key.len == 0 || driver_of(engine, key) != live || engine_overlay_find(overlay, key) != NULL)
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

static enum status laid_over_make(const struct engine *engine, struct laid_over *over)
{
    const struct engine_overlay *overlay = engine->flags.overlay;
    *over = (struct laid_over){
        .patches = heap_alloc(overlay->count + engine->live_count + 1, sizeof *over->patches)};
    if (over->patches == NULL)
        return STATUS_NO_MEMORY;
    over->patch_count = patches_make(engine, over->patches);
    return engine_overlay_document(overlay, &over->json, &over->len);
}

static void laid_over_free(struct laid_over *over)
{
    heap_free(over->json);
    heap_free(over->patches);
}

static enum status hand_over(struct engine *engine)
{
    struct laid_over over;
    enum status status = laid_over_make(engine, &over);
    if (status == STATUS_OK)
        status = flagset_overlay(engine->flags.set, (struct slice){over.json, over.len}, over.patches,
                                 over.patch_count, engine->flags.change);
    laid_over_free(&over);
    return status;
}

void engine_flags_refresh(struct engine *engine)
{
    struct engine_flags *flags = &engine->flags;
    if (flags->set == NULL)
        return;
    flags->change++;
    flags->handed_over = hand_over(engine) == STATUS_OK;
    if (!flags->handed_over)
        engine_log_repeat(engine->log, ENGINE_LOG_ERROR,
                          "no memory to put a change of flags in force; tried again at every tick", NULL, 0);
}

// ---- a new set ----

static void retired_drop(struct engine_flags *flags, uint32_t i)
{
    flagset_snapshot_unref(flags->retired[i].set);
    flags->retired_count--;
    memmove(&flags->retired[i], &flags->retired[i + 1], (flags->retired_count - i) * sizeof *flags->retired);
}

// Readers may still count in a set that was replaced: it is gathered for a second longer, or until too many
// wait.
static void usage_follow(struct engine *engine, const struct flagset_snapshot *snapshot)
{
    struct engine_flags *flags = &engine->flags;
    if (flags->counted == snapshot)
        return;
    if (flags->retired_count == ENGINE_RETIRED_SETS) {
        usage_gather(flags->usage, flags->retired[0].set, engine_wall_ms(engine));
        retired_drop(flags, 0);
    }
    if (flags->counted != NULL)
        flags->retired[flags->retired_count++] = (struct engine_retired){
            .set = flags->counted, .until_us = io_loop_now_us(engine->loop) + 1000000};
    flags->counted = flagset_snapshot_ref(snapshot);
}

// Each problem is logged when it comes up, not with every set in which it still is.
static void note_problems(struct engine *engine)
{
    static const struct siphash_key salt = {0x70726f626c656d73ULL, 1};
    struct engine_flags *flags = &engine->flags;
    const struct flagset_problem *problems;
    uint64_t hashes[FLAGSET_PROBLEMS_MAX];
    uint32_t count = flagset_problems(flags->set, &problems);
    bool refused = flagset_refused(flags->set);
    for (uint32_t i = 0; i < count; i++) {
        bool told = false;
        hashes[i] = siphash(salt, problems[i].text, strlen(problems[i].text)) ^ (refused ? 1 : 0);
        for (uint32_t j = 0; j < flags->told_count; j++)
            told |= flags->told[j] == hashes[i];
        if (!told)
            engine_log_write(engine->log, problems[i].error ? ENGINE_LOG_ERROR : ENGINE_LOG_WARN,
                             problems[i].error && refused
                                 ? "a change of flags was refused whole; the last good set stays"
                                 : "flags have a problem",
                             ENGINE_FIELDS(ENGINE_TEXT("problem", problems[i].text)));
    }
    memcpy(flags->told, hashes, count * sizeof *hashes);
    flags->told_count = count;
}

// What a rollout's arms weigh is what the set in force splits by, not what the core wants already: a set may
// come between two changes, or split before what was changed beside is compiled.
static void splits_take(struct engine *engine, const struct flagset_snapshot *snapshot)
{
    for (uint32_t i = 0; i < engine->live_count; i++) {
        struct engine_live *live = &engine->live[i];
        uint32_t share = 0;
        if (live->share.flag[0] == '\0')
            continue;
        (void)flagset_snapshot_split(snapshot, slice_of(live->share.flag), &share);
        if (share == live->split_weight && live->split_table != 0)
            continue;
        live->split_weight = share;
        live->split_table = snapshot->version;
    }
}

bool engine_flags_in_path(const struct config *config)
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
    struct engine *engine = context;
    note_problems(engine);
    if (snapshot == NULL)
        return;
    splits_take(engine, snapshot);
    usage_follow(engine, snapshot);
    if (engine_flags_in_path(engine->config))
        engine_publish_or_retry(engine);
    engine_log_write(engine->log, ENGINE_LOG_INFO, "flags are in force",
                     ENGINE_FIELDS(ENGINE_NUMBER("set", snapshot->version),
                                   ENGINE_NUMBER("flags", flags_image_flag_count(&snapshot->all.set)),
                                   ENGINE_NUMBER("change", snapshot->change)));
    struct list *link = engine->flags.watchers.next;
    while (link != &engine->flags.watchers) {
        struct engine_flags_watcher *watcher = CONTAINER_OF(link, struct engine_flags_watcher, link);
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

enum status engine_segments_fit(const struct config *config, const struct rollout_spec *spec,
                                const char **missing)
{
    *missing = NULL;
    struct slice text = segments_of(config);
    struct flags_json_space space = {
        .node_cap = (uint32_t)text.len + 2, .char_cap = text.len + 1, .last_wins = true};
    space.nodes = heap_alloc(space.node_cap, sizeof *space.nodes);
    space.chars = heap_alloc(space.char_cap, 1);
    struct flags_json *root = NULL;
    struct flags_json_error fault;
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
                                  struct fault *fault)
{
    if (count == 0)
        return fault_set(fault, status, "the flags cannot be read: %s", status_name(status));
    struct text text = text_over(fault->text, sizeof fault->text);
    text_add(&text, SLICE("the flags are not valid:"));
    for (uint32_t i = 0; i < count; i++)
        if (problems[i].error)
            text_addf(&text, "\n  %s", problems[i].text);
    fault->status = status;
    return status;
}

static enum status set_open(struct engine *engine, const struct sources *sources,
                            const struct laid_over *over, uint32_t readers, struct fault *fault)
{
    const struct config *config = engine->config;
    struct flagset_problem *problems = heap_alloc(FLAGSET_PROBLEMS_MAX, sizeof *problems);
    if (problems == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left for flags");
    uint32_t count = 0;
    struct flagset_config wanted = {
        .loop = engine->loop,
        .sources = sources->items,
        .source_count = sources->count,
        .segments = segments_of(config),
        .reader_count = readers,
        .share = config->flags.share[0] != '\0' ? config->flags.share : NULL,
        .overlay = {over->json, over->len},
        .patches = over->patches,
        .patch_count = over->patch_count,
        .change = engine->flags.change,
        .changed = on_changed,
        .context = engine,
    };
    enum status status = flagset_create(&wanted, &engine->flags.set, problems, &count);
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

static void leave_addresses_out(struct sources *sources, struct engine_flags_report *report)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sources->count; i++)
        if (sources->items[i].kind != FLAGSET_HTTP)
            sources->items[kept++] = sources->items[i];
    report->left_out = sources->count - kept;
    report->sources = kept;
    sources->count = kept;
}

static bool variant_exists(const struct flags_image *set, struct slice key, const char *variant)
{
    struct slice name, json;
    for (uint32_t i = 0; flags_image_variant_get(set, key, i, &name, &json); i++)
        if (slice_equal(name, slice_of(variant)))
            return true;
    return false;
}

// Whether the set lacks what the rollout moves, with a sentence.
static bool rollout_lacks(const struct flags_image *set, const struct rollout_spec *spec, char *why,
                          size_t cap)
{
    struct slice key = slice_of(spec->flag);
    struct flags_info info;
    const char *const variants[] = {spec->from, spec->to};
    if (!flags_image_find(set, key, &info)) {
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

static void report_rollouts(const struct config *config, const struct flags_image *set,
                            struct engine_flags_report *report)
{
    char why[ENGINE_FLAG_KEY_BYTES + 128];
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

static void report_fill(const struct flagset *set, struct engine_flags_report *report)
{
    const struct flagset_problem *problems;
    report->problem_count = flagset_problems(set, &problems);
    if (report->problem_count > FLAGSET_PROBLEMS_MAX)
        report->problem_count = FLAGSET_PROBLEMS_MAX;
    memcpy(report->problems, problems, report->problem_count * sizeof *problems);
    report->flags = flags_image_flag_count(&flagset_current(set)->all.set);
}

// over: what is laid over them here, or NULL.
static enum status check_with(const struct config *config, const struct laid_over *over,
                              struct engine_flags_report *report)
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

enum status engine_flags_check(const struct config *config, struct engine_flags_report *report)
{
    return check_with(config, NULL, report);
}

static enum status usage_begin(struct engine *engine, struct fault *fault)
{
    char path[CONFIG_PATH_BYTES + 16];
    bool damaged = false;
    snprintf(path, sizeof path, "%s-usage", journal_path(engine->journal));
    enum status status = usage_open(path, engine_wall_ms(engine), &engine->flags.usage, &damaged);
    if (status != STATUS_OK)
        return fault_set(fault, status, "%s cannot be used (%s); move it away to begin a new one", path,
                         status_name(status));
    if (damaged)
        engine_log_write(engine->log, ENGINE_LOG_WARN,
                         "what was known of the use of flags was damaged and set aside; it begins anew",
                         ENGINE_FIELDS(ENGINE_TEXT("file", path)));
    return STATUS_OK;
}

enum status engine_flags_open(struct engine *engine, uint32_t readers, struct fault *fault)
{
    if (!engine->config->flags.given)
        return STATUS_OK;
    struct engine_flags *flags = &engine->flags;
    struct sources *sources = heap_alloc(1, sizeof *sources);
    struct laid_over over = {.json = NULL};
    enum status status = sources == NULL ? STATUS_NO_MEMORY : sources_make(engine->config, sources);
    if (status == STATUS_OK)
        status = laid_over_make(engine, &over);
    flags->change = flags->overlay->changes + 1;
    if (status != STATUS_OK)
        (void)fault_set(fault, status, "no memory left for flags");
    else
        status = set_open(engine, sources, &over, readers, fault);
    laid_over_free(&over);
    if (sources != NULL)
        heap_free(sources->define);
    heap_free(sources);
    if (status == STATUS_OK)
        status = usage_begin(engine, fault);
    if (status != STATUS_OK)
        return status;
    flags->handed_over = true;
    note_problems(engine);
    splits_take(engine, flagset_current(flags->set));
    usage_follow(engine, flagset_current(flags->set));
    return STATUS_OK;
}

// Nobody counts any more: the rest is taken, and kept at once, for the next gather is another process's.
static void usage_end(struct engine *engine)
{
    struct engine_flags *flags = &engine->flags;
    int64_t now_ms = engine_wall_ms(engine);
    while (flags->retired_count > 0) {
        usage_gather(flags->usage, flags->retired[0].set, now_ms);
        retired_drop(flags, 0);
    }
    if (flags->counted != NULL)
        usage_gather(flags->usage, flags->counted, now_ms);
    flagset_snapshot_unref(flags->counted);
    if (usage_save(flags->usage, now_ms, true) != STATUS_OK)
        engine_log_write(engine->log, ENGINE_LOG_WARN, "what is known of the use of flags cannot be saved",
                         NULL, 0);
    usage_close(flags->usage);
}

void engine_flags_close(struct engine *engine)
{
    struct engine_flags *flags = &engine->flags;
    if (flags->usage != NULL)
        usage_end(engine);
    if (flags->set != NULL)
        flagset_destroy(flags->set);
    if (flags->overlay != NULL)
        engine_overlay_deinit(flags->overlay);
    heap_free(flags->overlay);
    *flags = (struct engine_flags){.set = NULL};
}

enum status engine_flags_acceptable(const struct engine *engine, const struct config *config,
                                    struct fault *fault)
{
    if (engine->flags.set == NULL || !config->flags.given)
        return STATUS_OK;
    struct engine_flags_report *report = heap_alloc(1, sizeof *report);
    struct laid_over over = {.json = NULL};
    enum status status = report != NULL ? laid_over_make(engine, &over) : STATUS_NO_MEMORY;
    if (status == STATUS_OK)
        status = check_with(config, &over, report);
    if (status != STATUS_OK)
        (void)problems_fault(report != NULL ? report->problems : NULL,
                             report != NULL ? report->problem_count : 0, status, fault);
    laid_over_free(&over);
    heap_free(report);
    return status;
}

void engine_flags_reload(struct engine *engine)
{
    // Without the word nothing changes until the next start, as the log says.
    if (!engine->config->flags.given)
        return;
    struct sources *sources = engine->flags.set != NULL ? heap_alloc(1, sizeof *sources) : NULL;
    if (sources == NULL)
        return;
    if (sources_make(engine->config, sources) == STATUS_OK)
        flagset_reconfigure(engine->flags.set, sources->items, sources->count, segments_of(engine->config));
    heap_free(sources->define);
    heap_free(sources);
    engine_flags_refresh(engine);
}

// ---- once a second ----

static void usage_tick(struct engine *engine)
{
    struct engine_flags *flags = &engine->flags;
    int64_t now_ms = engine_wall_ms(engine);
    for (uint32_t i = flags->retired_count; i-- > 0;) {
        usage_gather(flags->usage, flags->retired[i].set, now_ms);
        if (io_loop_now_us(engine->loop) >= flags->retired[i].until_us)
            retired_drop(flags, i);
    }
    usage_gather(flags->usage, flags->counted, now_ms);
    if (usage_save(flags->usage, now_ms, false) != STATUS_OK)
        engine_log_repeat(engine->log, ENGINE_LOG_WARN, "what is known of the use of flags cannot be saved",
                          NULL, 0);
}

void engine_flags_tick(struct engine *engine)
{
    struct engine_flags *flags = &engine->flags;
    if (flags->set == NULL)
        return;
    if (!flags->handed_over)
        engine_flags_refresh(engine);
    uint64_t now_us = io_loop_now_us(engine->loop);
    if (now_us < flags->usage_due_us)
        return;
    flags->usage_due_us = now_us + 1000000;
    usage_tick(engine);
}

// ---- changes ----

enum status engine_flag_rollout_ready(const struct engine *engine, const struct rollout_spec *spec,
                                      struct fault *fault)
{
    if (engine->flags.set == NULL)
        return fault_set(fault, STATUS_CONFLICT,
                         "cannot start: the file's `flags` take effect only when the daemon is started "
                         "again");
    char why[ENGINE_FLAG_KEY_BYTES + 128];
    if (rollout_lacks(&flagset_current(engine->flags.set)->all.set, spec, why, sizeof why))
        return fault_set(fault, STATUS_CONFLICT, "cannot start: %s", why);
    return STATUS_OK;
}

static enum status refuse_key(const char *key, struct fault *fault)
{
    size_t len = strlen(key);
    if (len == 0 || len >= ENGINE_FLAG_KEY_BYTES)
        return fault_set(fault, STATUS_INVALID, "a flag's key has 1 to %d bytes", ENGINE_FLAG_KEY_BYTES - 1);
    if (!utf8_valid((struct slice){key, len}))
        return fault_set(fault, STATUS_INVALID, "the key is not well-formed UTF-8");
    return STATUS_OK;
}

static enum status refuse_set(struct engine *engine, const struct engine_flag_change *change,
                              struct fault *fault)
{
    struct flagset_problem problem = {.text = ""};
    if (change->definition.len > ENGINE_FLAG_DEFINITION_BYTES)
        return fault_set(fault, STATUS_INVALID, "the definition is larger than %d KiB",
                         ENGINE_FLAG_DEFINITION_BYTES / 1024);
    const struct engine_live *live = driver_of(engine, slice_of(change->key));
    if (live != NULL && live->share.active)
        return fault_set(fault, STATUS_CONFLICT,
                         "rollout %s is moving flag %s; abort it or let it end before the flag is "
                         "defined anew (`off` works at any time)",
                         live->name, change->key);
    if (change->checked)
        return STATUS_OK;
    enum status status =
        flagset_check_flag(engine->flags.set, slice_of(change->key), change->definition, &problem);
    if (status != STATUS_OK)
        return fault_set(fault, status, "%s", problem.text[0] != '\0' ? problem.text : status_name(status));
    return STATUS_OK;
}

static enum status refuse_switch(struct engine *engine, const struct engine_flag_change *change,
                                 struct fault *fault)
{
    const struct flags_image *set = &flagset_current(engine->flags.set)->all.set;
    struct slice key = slice_of(change->key);
    struct flags_info info;
    const struct engine_overlay_entry *entry = engine_overlay_find(engine->flags.overlay, key);
    bool laid_over = entry != NULL;
    // Defined a moment ago and not in force yet: what its variants are is seen when it is. A kill that names
    // none of them changes nothing and is a warning.
    bool fresh = laid_over && entry->definition != NULL &&
                 flagset_current(engine->flags.set)->change < engine->flags.change;
    if (!flags_image_find(set, key, &info) && !laid_over)
        return fault_set(fault, STATUS_NOT_FOUND, "there is no flag \"%s\"", change->key);
    if (change->op == ENGINE_FLAG_UNSET && !laid_over)
        return fault_set(fault, STATUS_CONFLICT, "nothing was changed at runtime of flag \"%s\"",
                         change->key);
    const struct engine_live *live = driver_of(engine, key);
    if (change->op == ENGINE_FLAG_UNSET && entry->definition != NULL && live != NULL && live->share.active)
        return fault_set(fault, STATUS_CONFLICT,
                         "rollout %s is moving flag %s as it was defined at runtime; abort it or let "
                         "it end before the definition goes",
                         live->name, change->key);
    bool names = change->op == ENGINE_FLAG_OFF && change->variant != NULL && change->variant[0] != '\0';
    if (names && !fresh && !variant_exists(set, key, change->variant))
        return fault_set(fault, STATUS_INVALID, "flag \"%s\" has no variant \"%s\"", change->key,
                         change->variant);
    if (names && strlen(change->variant) >= ROLLOUT_NAME_BYTES)
        return fault_set(fault, STATUS_INVALID, "the variant's name is longer than %d bytes",
                         ROLLOUT_NAME_BYTES - 1);
    return STATUS_OK;
}

static enum status journal_change(struct engine *engine, const struct engine_flag_change *change,
                                  uint64_t *seq, struct fault *fault)
{
    struct wire_writer writer = {.data = heap_alloc(1, ENGINE_OVERLAY_WIRE_BYTES_MAX),
                                 .cap = ENGINE_OVERLAY_WIRE_BYTES_MAX};
    if (writer.data == NULL)
        return fault_set(fault, STATUS_NO_MEMORY, "no memory left");
    engine_overlay_encode(change, &writer);
    CHECK(!writer.full);
    enum status status =
        engine_record_flag(engine, change->key, (struct slice){(const char *)writer.data, writer.len}, seq);
    heap_free(writer.data);
    if (status != STATUS_OK)
        return fault_set(fault, status, "the journal cannot be written, so nothing is changed: %s",
                         engine->health.journal_problem);
    return STATUS_OK;
}

enum status engine_flag_apply(struct engine *engine, const struct engine_flag_change *change,
                              uint64_t *number, struct fault *fault)
{
    struct engine_flags *flags = &engine->flags;
    if (flags->set == NULL)
        return fault_set(fault, STATUS_CONFLICT, "the file has no `flags`");
    if (engine->health.draining)
        return fault_set(fault, STATUS_CONFLICT, "the daemon is shutting down");
    enum status status = refuse_key(change->key, fault);
    if (status == STATUS_OK)
        status = change->op == ENGINE_FLAG_SET ? refuse_set(engine, change, fault)
                                               : refuse_switch(engine, change, fault);
    if (status != STATUS_OK)
        return status;
    status = engine_overlay_room(flags->overlay, change);
    if (status != STATUS_OK)
        return fault_set(fault, status,
                         status == STATUS_FULL ? "no more than %d flags can be changed at runtime, and "
                                                 "their definitions together have at most %d MiB"
                                               : "no memory left to change more flags",
                         ENGINE_FLAG_OVERLAY_MAX, ENGINE_FLAG_OVERLAY_BYTES_MAX >> 20);
    uint64_t seq = 0;
    status = journal_change(engine, change, &seq, fault);
    if (status != STATUS_OK)
        return status;
    status = engine_overlay_take(flags->overlay, change, seq, engine_wall_ms(engine));
    if (status != STATUS_OK)
        return fault_set(fault, status,
                         "the change is in the journal, but there is no memory to put it in force; it "
                         "will be after a restart");
    engine_log_write(engine->log, ENGINE_LOG_INFO, "a flag was changed",
                     ENGINE_FIELDS(ENGINE_TEXT("flag", change->key),
                                   ENGINE_TEXT("change", engine_flag_op_name(change->op)),
                                   ENGINE_TEXT("variant", change->variant != NULL ? change->variant : ""),
                                   ENGINE_TEXT("who", change->who), ENGINE_TEXT("from", change->from),
                                   ENGINE_NUMBER("entry", seq)));
    engine_flags_refresh(engine);
    *number = flags->change;
    return STATUS_OK;
}

// ---- what people look at ----

uint64_t engine_flag_changes(const struct engine *engine)
{
    return engine->flags.overlay->changes;
}

void engine_flag_overlay_get(const struct engine *engine, struct slice key,
                             struct engine_flag_overlay *overlay)
{
    *overlay = (struct engine_flag_overlay){.state = FLAGS_PATCH_AS_IS};
    if (engine->flags.overlay == NULL)
        return;
    const struct engine_live *live = driver_of(engine, key);
    overlay->rollout = live != NULL ? live->name : NULL;
    const struct engine_overlay_entry *entry = engine_overlay_find(engine->flags.overlay, key);
    if (entry == NULL)
        return;
    overlay->defined = entry->definition != NULL;
    overlay->state = entry->state;
    overlay->killed = entry->killed;
    memcpy(overlay->kill_variant, entry->kill_variant, sizeof overlay->kill_variant);
}

uint32_t engine_flag_history_count(const struct engine *engine)
{
    if (engine->flags.overlay == NULL)
        return 0;
    uint64_t changes = engine->flags.overlay->changes;
    return changes < ENGINE_FLAG_CHANGES_KEPT ? (uint32_t)changes : ENGINE_FLAG_CHANGES_KEPT;
}

const struct engine_flag_entry *engine_flag_history(const struct engine *engine, uint32_t i)
{
    const struct engine_overlay *overlay = engine->flags.overlay;
    uint32_t count = engine_flag_history_count(engine);
    CHECK(i < count);
    return &overlay->history[(overlay->changes - count + i) % ENGINE_FLAG_CHANGES_KEPT];
}
