// SPDX-License-Identifier: Apache-2.0
// A new set from a daemon: each tick is one load of memory; every half second the library checks whether the
// daemon lives and still writes the file that is mapped.
#include <stdio.h>

#include "base/heap.h"
#include "flags/library/library_private.h"

static enum status say(char problem[SLUICE_FLAGS_PROBLEM_BYTES], const char *path, const char *what,
                       enum status status)
{
    (void)snprintf(problem, SLUICE_FLAGS_PROBLEM_BYTES, "%.300s: %s (%s)", path, what, status_name(status));
    return status;
}

static enum status open_reader(struct sluice_flags_provider *provider,
                               char problem[SLUICE_FLAGS_PROBLEM_BYTES])
{
    struct share_reader *reader;
    enum status status = share_reader_open(provider->path, &reader);
    if (status == STATUS_NOT_FOUND) {
        (void)say(problem, provider->path, "nothing was published there yet", status);
        return STATUS_AGAIN;
    }
    if (status != STATUS_OK)
        return say(problem, provider->path, "cannot read what is published", status);
    if (provider->reader != NULL)
        share_reader_close(provider->reader);
    provider->reader = reader;
    provider->tick = 0;
    return STATUS_OK;
}

static enum status take(struct sluice_flags_provider *provider, struct library_set **out,
                        char problem[SLUICE_FLAGS_PROBLEM_BYTES])
{
    struct library_set *set = heap_alloc(1, sizeof *set);
    if (set == NULL)
        return say(problem, provider->path, "cannot take the new set", STATUS_NO_MEMORY);
    enum status status = share_reader_take(provider->reader, &set->mapping);
    if (status != STATUS_OK) {
        heap_free(set);
        if (status == STATUS_AGAIN || status == STATUS_NOT_FOUND)
            return STATUS_AGAIN;
        return say(problem, provider->path, "the newest set is damaged or of another version", status);
    }
    set->set = set->mapping.set;
    *out = set;
    return STATUS_OK;
}

enum status library_look_shared(struct sluice_flags_provider *provider, struct library_set **set,
                                char problem[SLUICE_FLAGS_PROBLEM_BYTES])
{
    if (provider->reader == NULL) {
        enum status status = open_reader(provider, problem);
        if (status != STATUS_OK)
            return status;
    }
    if (provider->tick++ % LIBRARY_LOOK_TICKS == 0) {
        if (share_reader_replaced(provider->reader, provider->path))
            (void)open_reader(provider, problem);
        provider->unwritten = !share_reader_written(provider->reader);
        if (provider->unwritten)
            (void)say(problem, provider->path, "no daemon publishes there now", STATUS_CLOSED);
    }
    return share_reader_stale(provider->reader) ? take(provider, set, problem) : STATUS_AGAIN;
}
