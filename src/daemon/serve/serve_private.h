// SPDX-License-Identifier: Apache-2.0
// What parts.c lists.
#pragma once

#include "daemon/serve/serve.h"
#include "net/io/loop.h"

struct serve_part {
    const char *name;
    enum serve_outcome (*open)(struct serve *serve);
    void (*reload)(struct serve *serve); // another file is in force; NULL: nothing to do
    void (*close)(struct serve *serve);  // also of what was not opened
};

// In the order in which they open; they close in the other one. Ends with a NULL.
extern const struct serve_part *const serve_parts[];
extern const struct serve_part serve_journal_part, serve_api_part, serve_evaluation_part, serve_access_part;

// ---- advice.c
// What to do about a status that something could not be started with.
const char *serve_advice(enum status status);
// What there is room for under the limit of descriptors; tells when clients have less than the file says.
struct serve_room serve_room(const struct serve *serve, const struct config *config);
// ---- evaluation.c
// Whole lines or none: a line cut by a full disk would spoil the next one too. False: none.
bool serve_append(int file, struct slice text);
// False: it was not started.
bool serve_evaluation_addr(const struct serve *serve, struct io_addr *addr);
// ---- reload.c
// As struct api_program has it; context: the daemon. What it did is in the log too.
enum status serve_reload(void *context, struct text *told);
// What the file is valid with, yet should be known, into the log.
void serve_say_notes(struct serve *serve, const struct config *config);
