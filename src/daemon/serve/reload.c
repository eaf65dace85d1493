// SPDX-License-Identifier: Apache-2.0
// Another file for the running daemon: valid and in force, or nothing changes; then each part follows.
#include <string.h>

#include "base/heap.h"
#include "daemon/config/config.h"
#include "daemon/serve/serve_private.h"
#include "daemon/supervise/supervise.h"
#include "operate/log/log.h"
#include "ship/engine/engine.h"

struct scratch {
    struct config_errors errors;
    struct fault fault;
    char restarts[1024];
    char report[CONFIG_REPORT_BYTES_MAX];
};

static void add_restart(void *context, const char *word)
{
    struct text *restarts = context;
    text_addf(restarts, "%s%s", restarts->len > 0 ? ", " : "", word);
}

static bool next_line(struct slice *rest, struct slice *line)
{
    const char *end = memchr(rest->data, '\n', rest->len);
    *line = (struct slice){rest->data, end != NULL ? (size_t)(end - rest->data) : rest->len};
    size_t taken = line->len + (end != NULL ? 1 : 0);
    *rest = (struct slice){rest->data + taken, rest->len - taken};
    return taken > 0;
}

static enum status refuse(struct serve *serve, enum status status, const char *what, const char *why,
                          struct text *told)
{
    log_write(serve->options.log, LOG_ERROR, what,
              LOG_FIELDS(LOG_TEXT("file", serve->path), LOG_TEXT("why", why)));
    text_addf(told, "%s:", what);
    for (struct slice rest = slice_of(why), line; next_line(&rest, &line);)
        text_addf(told, "\n  %.*s", (int)line.len, line.data);
    return status;
}

static enum status reload(struct serve *serve, struct scratch *scratch, struct text *told)
{
    struct config *config;
    enum status status = config_load(serve->path, &config, &scratch->errors);
    if (status != STATUS_OK) {
        struct text report = text_over(scratch->report, sizeof scratch->report);
        config_errors_write(&scratch->errors, &report);
        return refuse(serve, status, "the file is not valid and changes nothing", scratch->report, told);
    }
    struct text restarts = text_over(scratch->restarts, sizeof scratch->restarts);
    config_restarts(engine_config(serve->engine), config, add_restart, &restarts);
    serve_say_notes(serve, config);
    status = engine_reload(serve->engine, config, &scratch->fault);
    if (status != STATUS_OK) {
        config_destroy(config);
        return refuse(serve, status, "the file cannot be put in force and changes nothing",
                      scratch->fault.text, told);
    }
    for (size_t i = 0; serve_parts[i] != NULL; i++)
        if (serve_parts[i]->reload != NULL)
            serve_parts[i]->reload(serve);
    if (restarts.len > 0)
        text_addf(told, "only when the daemon is started again: %s", scratch->restarts);
    for (uint32_t i = 0; i < config->note_count; i++)
        text_addf(told, "%s%s", told->len > 0 ? "\n  " : "", config->notes[i]);
    return STATUS_OK;
}

void serve_say_notes(struct serve *serve, const struct config *config)
{
    for (uint32_t i = 0; i < config->note_count; i++)
        log_write(serve->options.log, LOG_WARN, config->notes[i], NULL, 0);
}

enum status serve_reload(void *context, struct text *told)
{
    struct serve *serve = context;
    if (serve->path == NULL) {
        text_addf(told, "this daemon was not started from a file");
        return STATUS_NOT_FOUND;
    }
    struct scratch *scratch = heap_alloc(1, sizeof *scratch);
    enum status status = scratch != NULL ? reload(serve, scratch, told) : STATUS_NO_MEMORY;
    if (status == STATUS_OK)
        supervise_reloaded();
    if (scratch == NULL)
        text_addf(told, "no memory is left to read the file");
    heap_free(scratch);
    return status;
}
