// SPDX-License-Identifier: Apache-2.0
// A flag set shared between processes through a directory: one writer publishes images, any number of readers
// map them. `current` (one page, mapped by all) holds a sequence number and the name of the image in force;
// images are separate files, written whole and renamed into place, never changed. A reader learns of an
// update by looking at memory; it never locks and never writes.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"
#include "flags/eval/image.h"

enum {
    SHARE_PATH_BYTES = 1024,
    SHARE_IMAGES_KEPT = 2, // older ones are removed; who has one mapped keeps it
};

// ---- writer ----

struct share_writer;
// Makes the directory (0755) when there is none; takes a lock: STATUS_IN_USE when another process writes
// there. STATUS_DENIED also for a directory that anybody may write, or that is neither ours nor root's: who
// reads an image believes it.
MUST_USE enum status share_writer_open(const char *directory, struct share_writer **writer);
void share_writer_close(struct share_writer *writer);
// STATUS_NO_SPACE, IO, DENIED: nothing changed for readers. Nothing is synced to the disk: images are caches.
MUST_USE enum status share_writer_publish(struct share_writer *writer, struct slice image);

// ---- reader ----

// Not for two threads at once, but share_reader_stale, which any thread may call.
struct share_reader;
// STATUS_NOT_FOUND: nothing was ever published there. CORRUPT, DENIED (also where anybody may write),
// NO_MEMORY.
MUST_USE enum status share_reader_open(const char *directory, struct share_reader **reader);
void share_reader_close(struct share_reader *reader);
// Whether something other than what `take` last gave or refused as CORRUPT is there: one load of mapped
// memory.
bool share_reader_stale(const struct share_reader *reader);
// Whether a writer lives (a system call): without one the flags stay as they are.
bool share_reader_written(const struct share_reader *reader);
// Whether that directory now has another `current` than the one mapped (system calls): then only opening
// again shows what is published there.
bool share_reader_replaced(const struct share_reader *reader, const char *directory);
// Maps and verifies the newest image. STATUS_AGAIN when the writer was quicker; try again. CORRUPT when the
// image is missing, of another length or damaged: mappings given before stay good.
struct share_mapping {
    struct flags_image set;
    void *data;
    size_t len;
    uint64_t sequence;
};
MUST_USE enum status share_reader_take(struct share_reader *reader, struct share_mapping *mapping);
void share_mapping_drop(struct share_mapping *mapping);
