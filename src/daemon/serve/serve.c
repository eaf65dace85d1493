// SPDX-License-Identifier: Apache-2.0
// Start and end of the daemon: its parts one after the other, and back.
#include "base/check.h"
#include "daemon/config/config.h"
#include "daemon/serve/serve_private.h"
#include "net/io/loop.h"

void serve_end(struct serve *serve)
{
    size_t count = 0;
    while (serve_parts[count] != NULL)
        count++;
    for (size_t i = count; i-- > 0;)
        serve_parts[i]->close(serve);
    *serve = (struct serve){.loop = NULL};
}

enum serve_outcome serve_start(struct serve *serve, const struct serve_options *options)
{
    enum serve_outcome outcome = SERVE_OK;
    *serve = (struct serve){.options = *options, .evaluation = {.exposures = -1}};
    for (size_t i = 0; serve_parts[i] != NULL && outcome == SERVE_OK; i++)
        outcome = serve_parts[i]->open(serve);
    if (outcome == SERVE_OK)
        return outcome;
    // The engine took the config; without one it is still the caller's to destroy.
    bool config_is_ours = serve->engine == NULL;
    serve_end(serve);
    if (config_is_ours)
        config_destroy(options->config);
    return outcome;
}

void serve_run(struct serve *serve)
{
    io_loop_run(serve->loop);
}

void serve_stopped(void *context)
{
    struct serve *serve = context;
    io_loop_stop(serve->loop);
}
