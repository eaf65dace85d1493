// SPDX-License-Identifier: Apache-2.0
// Another file for the running daemon: valid and in force, or nothing changes; then each part follows.
#include "base/heap.h"
#include "daemon/config/config.h"
#include "daemon/serve/serve_private.h"
#include "operate/log/log.h"
#include "ship/engine/engine.h"

struct scratch {
    struct config_errors errors;
    struct fault fault;
    char report[CONFIG_REPORT_BYTES_MAX];
};

static void reload(struct serve *serve, struct scratch *scratch)
{
    struct config *config;
    enum status status = config_load(serve->path, &config, &scratch->errors);
    if (status != STATUS_OK) {
        struct text report = text_over(scratch->report, sizeof scratch->report);
        config_errors_write(&scratch->errors, &report);
        log_write(serve->options.log, LOG_ERROR, "the file is not valid and changes nothing",
                  LOG_FIELDS(LOG_TEXT("file", serve->path), LOG_TEXT("errors", report.data)));
        return;
    }
    status = engine_reload(serve->engine, config, &scratch->fault);
    if (status != STATUS_OK) {
        config_destroy(config);
        log_write(serve->options.log, LOG_ERROR, "the file cannot be put in force and changes nothing",
                  LOG_FIELDS(LOG_TEXT("file", serve->path), LOG_TEXT("why", scratch->fault.text)));
        return;
    }
    for (size_t i = 0; serve_parts[i] != NULL; i++)
        if (serve_parts[i]->reload != NULL)
            serve_parts[i]->reload(serve);
}

void serve_reload(struct serve *serve)
{
    struct scratch *scratch = heap_alloc(1, sizeof *scratch);
    if (scratch != NULL)
        reload(serve, scratch);
    heap_free(scratch);
}
